\set number random(1, :targets)
SELECT {columns}
  FROM tasks_task
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL;
