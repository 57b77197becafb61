\set number random(1, :targets)
\set title random(1, 1000000000)
\set day random(60, 424)
\if :title % 3 = 0
UPDATE tasks_task
   SET title = 'Changed, number ' || :title::int, updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING {columns};
\elif :title % 3 = 1
UPDATE tasks_task
   SET due_on = current_date + :day::int, updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING {columns};
\else
UPDATE tasks_task
   SET priority = :day % 5, updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING {columns};
\endif
