\set number random(1, :targets)
SELECT id, user_id, title, description, is_completed, completed_at, created_at, updated_at
  FROM tasks_task
 WHERE user_id = (SELECT user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
 ORDER BY created_at DESC, id DESC
 LIMIT 21;
