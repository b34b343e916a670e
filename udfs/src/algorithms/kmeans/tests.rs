//! k-means against scikit-learn, and its laws.
