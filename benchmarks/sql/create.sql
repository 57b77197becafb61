\set number random(1, :targets)
\set day random(60, 424)
INSERT INTO tasks_task (id, user_id, title, description, due_on, priority, labels, created_at, updated_at, version)
VALUES (uuidv7(), (SELECT user_id FROM benchmark.target WHERE number = :number),
        'Write a report', CASE WHEN :day % 3 = 0 THEN 'Ask first. Only mornings.' END,
        current_date + :day::int, :day % 5, '{work,letters}', now(), now(), 1)
RETURNING {columns};
