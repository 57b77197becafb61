\set number random(1, :targets)
INSERT INTO tasks_task (id, user_id, title, description, created_at, updated_at, version)
VALUES (uuidv7(), (SELECT user_id FROM benchmark.target WHERE number = :number),
        'Write a report', 'Ask first. Only mornings.', now(), now(), 1)
RETURNING id, user_id, title, description, is_completed, completed_at, created_at, updated_at;
