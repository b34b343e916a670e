-- Fashion-MNIST, an MLP of 256, 128 and 100 units. Published for it: 0.8833 (the data set's README);
-- a PyTorch prototype of the replicas' averaging: one 0.884, two 0.883, eight 0.858.
-- Means of three seeds; what is compared differs in one thing alone. Some minutes.
COPY (SELECT * FROM 'data/fashion_mnist_train.parquet' ORDER BY label) TO 'sorted.parquet';

TRAIN OR REPLACE MODEL fashion_one_1 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 1) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_one_2 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 2) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_one_3 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 3) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_sorted_1 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 1) FROM 'sorted.parquet';
TRAIN OR REPLACE MODEL fashion_sorted_2 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 2) FROM 'sorted.parquet';
TRAIN OR REPLACE MODEL fashion_sorted_3 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 3) FROM 'sorted.parquet';
TRAIN OR REPLACE MODEL fashion_two_1 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 2, seed = 1) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_two_2 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 2, seed = 2) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_two_3 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 2, seed = 3) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_gradient_1 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, parallel = 'gradient', replicas = 8, seed = 1) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_gradient_2 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, parallel = 'gradient', replicas = 8, seed = 2) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_gradient_3 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, parallel = 'gradient', replicas = 8, seed = 3) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_eight_1 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 30, learning_rate = 0.002, replicas = 8, seed = 1) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_eight_2 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 30, learning_rate = 0.002, replicas = 8, seed = 2) FROM 'data/fashion_mnist_train.parquet';
TRAIN OR REPLACE MODEL fashion_eight_3 USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 30, learning_rate = 0.002, replicas = 8, seed = 3) FROM 'data/fashion_mnist_train.parquet';

-- The same statement gives the same bits.
TRAIN OR REPLACE MODEL again_one USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 1, seed = 1) FROM 'data/fashion_mnist_train.parquet';
SELECT assert_true(count(*) = 8, 'a repetition differs: one') FROM model.fashion_one_1.parameters a
JOIN model.again_one.parameters b ON a.layer = b.layer AND a.name = b.name AND a.values = b.values;
TRAIN OR REPLACE MODEL again_two USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, replicas = 2, seed = 1) FROM 'data/fashion_mnist_train.parquet';
SELECT assert_true(count(*) = 8, 'a repetition differs: two') FROM model.fashion_two_1.parameters a
JOIN model.again_two.parameters b ON a.layer = b.layer AND a.name = b.name AND a.values = b.values;
TRAIN OR REPLACE MODEL again_gradient USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 10, parallel = 'gradient', replicas = 8, seed = 1) FROM 'data/fashion_mnist_train.parquet';
SELECT assert_true(count(*) = 8, 'a repetition differs: gradient') FROM model.fashion_gradient_1.parameters a
JOIN model.again_gradient.parameters b ON a.layer = b.layer AND a.name = b.name AND a.values = b.values;
TRAIN OR REPLACE MODEL again_eight USING mlp_classifier TARGET label
WITH (hidden = [256, 128, 100], schedule = 'cosine', split = 'none', epochs = 30, learning_rate = 0.002, replicas = 8, seed = 1) FROM 'data/fashion_mnist_train.parquet';
SELECT assert_true(count(*) = 8, 'a repetition differs: eight') FROM model.fashion_eight_1.parameters a
JOIN model.again_eight.parameters b ON a.layer = b.layer AND a.name = b.name AND a.values = b.values;

CREATE TABLE fashion AS
SELECT 'one' AS way, 1 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_one_1 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'one' AS way, 2 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_one_2 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'one' AS way, 3 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_one_3 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'sorted' AS way, 1 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_sorted_1 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'sorted' AS way, 2 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_sorted_2 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'sorted' AS way, 3 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_sorted_3 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'two' AS way, 1 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_two_1 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'two' AS way, 2 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_two_2 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'two' AS way, 3 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_two_3 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'gradient' AS way, 1 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_gradient_1 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'gradient' AS way, 2 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_gradient_2 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'gradient' AS way, 3 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_gradient_3 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'eight' AS way, 1 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_eight_1 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'eight' AS way, 2 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_eight_2 FROM 'data/fashion_mnist_test.parquet')
UNION ALL SELECT 'eight' AS way, 3 AS seed, accuracy(label, predicted_label) AS accuracy
FROM (PREDICT MODEL fashion_eight_3 FROM 'data/fashion_mnist_test.parquet');

SELECT way, round(avg(accuracy), 4) AS mean, round(min(accuracy), 4) AS least, round(max(accuracy), 4) AS most
FROM fashion GROUP BY way ORDER BY mean DESC;

CREATE VIEW means AS SELECT
  avg(accuracy) FILTER (WHERE way = 'one') AS one,
  avg(accuracy) FILTER (WHERE way = 'sorted') AS sorted,
  avg(accuracy) FILTER (WHERE way = 'two') AS two,
  avg(accuracy) FILTER (WHERE way = 'eight') AS eight,
  avg(accuracy) FILTER (WHERE way = 'gradient') AS gradient
FROM fashion;
SELECT assert_true(one >= 0.885, 'one replica is below 0.885'),
       assert_true(abs(sorted - one) <= 0.005, 'a sorted file is not within 0.005'),
       assert_true(two >= one - 0.01, 'two replicas are not within 0.01'),
       assert_true(eight >= one - 0.01, 'eight replicas are not within 0.01'),
       assert_true(abs(gradient - one) <= 0.005, 'parallel gradient is not within 0.005')
FROM means;
