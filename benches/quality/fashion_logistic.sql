-- Fashion-MNIST, multinomial logistic regression on the image column as it is.
-- scikit-learn's LogisticRegression after 60 iterations of L-BFGS: 0.8402.
TRAIN OR REPLACE MODEL fashion_logistic USING logistic_regression TARGET label
FROM 'data/fashion_mnist_train.parquet';

SELECT model, epochs, loss, eval_loss FROM (SELECT 'fashion_logistic' AS model, max(epoch) AS epochs,
       min(loss) AS loss, min(eval_loss) AS eval_loss FROM model.fashion_logistic.history);

EVALUATE MODEL fashion_logistic FROM 'data/fashion_mnist_test.parquet';

SELECT assert_true(accuracy(label, predicted_label) >= 0.840, 'accuracy below 0.840')
FROM (PREDICT MODEL fashion_logistic FROM 'data/fashion_mnist_test.parquet');
