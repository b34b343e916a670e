-- Who earns more than 50,000 a year? Logistic regression on the Adult census data, no options.
-- Run in the repository's folder: gradlake -f examples/sql/adult_income.sql

TRAIN OR REPLACE MODEL income USING logistic_regression TARGET income
FROM 'examples/data/adult_train.parquet';

-- Predictions stand behind the input's columns.
SELECT age, education, occupation, income, predicted_income,
       round(predict_proba('income', age, workclass, fnlwgt, education, education_num,
             marital_status, occupation, relationship, race, sex, capital_gain, capital_loss,
             hours_per_week, native_country)[1]['prob'], 3) AS sure
FROM (PREDICT MODEL income FROM 'examples/data/adult_test.parquet')
LIMIT 5;

EVALUATE MODEL income FROM 'examples/data/adult_test.parquet';

-- Which answers speak most for a high income?
SELECT processed_input, category, round(weight, 3) AS weight
FROM model.income.weights
WHERE kind IN ('category', 'missing')
ORDER BY weight DESC
LIMIT 5;

-- scikit-learn's LogisticRegression (C = 1) on the same rows: AUC 0.9054, log loss 0.3176.
CREATE TABLE scored AS
SELECT income, predicted_income, predicted_income_probs
FROM (PREDICT MODEL income FROM 'examples/data/adult_test.parquet');

SELECT assert_true(accuracy(income, predicted_income) >= 0.852, 'accuracy below 0.852') AS accuracy_is_reached,
       assert_true(roc_auc(income, predicted_income_probs) >= 0.905, 'AUC below 0.905') AS auc_is_reached,
       assert_true(log_loss(income, predicted_income_probs) <= 0.318, 'log loss above 0.318') AS log_loss_is_reached
FROM scored;
