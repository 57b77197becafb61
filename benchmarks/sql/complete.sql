\set number random(1, :targets)
UPDATE tasks_task
   SET completed_at = CASE WHEN completed_at IS NULL THEN now() END, updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING {columns};
