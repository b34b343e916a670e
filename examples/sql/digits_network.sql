-- Handwritten digits with a small network: an image column as it is, no feature list.
-- Run in the repository's folder: gradlake -f examples/sql/digits_network.sql

TRAIN OR REPLACE MODEL digit USING mlp_classifier TARGET label
WITH (hidden = [64, 32], epochs = 40, learning_rate = 0.002, schedule = 'cosine', batch_size = 32,
      split = 'none', seed = 7)
AS SELECT image, label FROM 'examples/data/digits.parquet' LIMIT 898;

-- The second half, which the network has not seen.
CREATE TABLE second_half AS SELECT image, label FROM 'examples/data/digits.parquet' OFFSET 898;
EVALUATE MODEL digit FROM second_half;

SELECT epoch, round(loss, 4) AS loss FROM model.digit.history WHERE epoch IN (1, 10, 20, 40);

-- scikit-learn's LogisticRegression on the same halves: 0.9344.
SELECT assert_true(accuracy(label, predicted_label) >= 0.93, 'accuracy below 0.93')
       AS accuracy_is_reached
FROM (PREDICT MODEL digit FROM second_half);
