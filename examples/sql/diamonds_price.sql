-- What is a diamond worth? Linear regression, with the features made by TRANSFORM, which is
-- frozen into the model and applied again by PREDICT.
-- Run in the repository's folder: gradlake -f examples/sql/diamonds_price.sql

TRAIN OR REPLACE MODEL price_law USING linear_regression
TRANSFORM (log2(carat) AS log_carat, log2(price) AS log_price)
TARGET log_price
FROM 'examples/data/diamonds.parquet';

-- The model is a table: price grows with the 1.676th power of the weight.
SELECT processed_input, round(weight, 3) AS weight FROM model.price_law.weights;

EVALUATE MODEL price_law FROM 'examples/data/diamonds.parquet';

-- The price itself need not be known to predict it.
SELECT carat, round(power(2, predicted_log_price)) AS price
FROM (PREDICT MODEL price_law AS SELECT 0.5 AS carat UNION ALL SELECT 1.0 UNION ALL SELECT 2.0)
ORDER BY carat;

SELECT assert_true(round(weight, 3) = 1.676, 'the slope is not 1.676') AS slope_is_right
FROM model.price_law.weights WHERE processed_input = 'log_carat';
SELECT assert_true(round(weight, 2) = 12.19, 'the intercept is not 12.19') AS intercept_is_right
FROM model.price_law.weights WHERE kind = 'intercept';
