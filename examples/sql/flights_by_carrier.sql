-- One model per carrier in one statement: will a flight arrive more than 15 minutes late?
-- Run in the repository's folder: gradlake -f examples/sql/flights_by_carrier.sql

CREATE VIEW flights AS
SELECT month, carrier, origin, distance, sched_dep_time, dep_delay, arr_delay > 15 AS late
FROM 'examples/data/flights.parquet' WHERE arr_delay IS NOT NULL;

TRAIN OR REPLACE MODEL late USING logistic_regression TARGET late PARTITION BY carrier
AS SELECT carrier, origin, distance, sched_dep_time, dep_delay, late FROM flights WHERE month < 11;

-- Tables of a partitioned model begin with the partition columns.
SELECT carrier, round(standardized_weight, 2) AS weight_of_delay
FROM model.late.weights WHERE processed_input = 'dep_delay' ORDER BY carrier LIMIT 5;

SELECT carrier, count(*) AS flights, round(accuracy(late, predicted_late), 3) AS accuracy
FROM (PREDICT MODEL late AS SELECT * FROM flights WHERE month >= 11)
GROUP BY carrier ORDER BY flights DESC LIMIT 5;

-- Three of four flights are in time: to say so of all would be right for 0.749 of them.
SELECT assert_true(accuracy(late, predicted_late) > 0.875, 'accuracy not above 0.875')
       AS accuracy_is_reached
FROM (PREDICT MODEL late AS SELECT * FROM flights WHERE month >= 11);
