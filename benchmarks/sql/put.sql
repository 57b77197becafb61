\set number random(1, :targets)
\set title random(1, 1000000000)
UPDATE tasks_task
   SET title = 'Replaced, number ' || :title::int, description = 'Ask first. Only mornings.',
       completed_at = CASE WHEN completed_at IS NULL THEN now() END, updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING id, user_id, title, description, is_completed, completed_at, created_at, updated_at;
