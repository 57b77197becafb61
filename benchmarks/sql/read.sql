\set number random(1, :targets)
SELECT id, user_id, title, description, is_completed, completed_at, created_at, updated_at
  FROM tasks_task
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL;
