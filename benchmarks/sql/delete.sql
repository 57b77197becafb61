-- The innermost SELECT, so that each transaction takes a number of its own, once.
UPDATE tasks_task SET deleted_at = now(), version = version + 1
 WHERE (id, user_id) = (SELECT id, user_id FROM benchmark.pool
                         WHERE number = (SELECT nextval('benchmark.next_in_pool')));
