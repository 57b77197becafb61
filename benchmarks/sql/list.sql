\set number random(1, :targets)
SELECT {columns}
  FROM tasks_task
 WHERE user_id = (SELECT user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
 ORDER BY created_at DESC, id DESC
 LIMIT 21;
