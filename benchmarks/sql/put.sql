\set number random(1, :targets)
\set title random(1, 1000000000)
\set day random(60, 424)
UPDATE tasks_task
   SET title = 'Replaced, number ' || :title::int, description = 'Ask first. Only mornings.',
       completed_at = CASE WHEN completed_at IS NULL THEN now() END,
       priority = :day % 5, labels = '{work,letters}',
       due_on = current_date + :day::int, due_time = '18:30', time_zone = 'Europe/Berlin',
       start_on = current_date + 60,
       list_id = (SELECT list_id FROM benchmark.target WHERE number = :number),
       updated_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.target WHERE number = :number)
   AND deleted_at IS NULL
RETURNING {columns};
