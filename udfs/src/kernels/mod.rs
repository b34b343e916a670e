//! Dense kernels over row-major buffers. `r` rows, `d` inputs, `u` units.
//!
//! Kernels allocate nothing, start no threads, and give the same bits for the same arguments.

pub mod activation;
pub mod aligned;
pub mod double;
pub mod gather;
pub mod gram;
pub mod lanes;
pub mod linear;
pub mod loss;
pub mod math;
pub mod matmul;
pub mod nearest;
pub mod panels;
pub mod prefetch;
pub mod quantile;
#[cfg(test)]
mod reference;
pub mod rng;
pub mod row;
pub mod softmax;
pub mod tiles;
