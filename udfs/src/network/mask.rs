//! How many steps of a sequence are valid, node by node.
//!
//! Sequences of different lengths are padded to the same number of steps. The law that every layer
//! keeps: what it computes at valid steps does not depend on what stands at the others, and is what
//! it would compute for the valid steps alone.
//!
//! - embedding, dense, activations, norms over channels, dropout, noise, positional_embedding: keep
//!   it; each step is computed alone.
//! - conv, max_pool, avg_pool: read 0 (max_pool: nothing) at invalid steps, and shorten the length
//!   by the formula of the shape.
//! - batch_norm: takes its statistics over valid steps, and keeps it.
//! - lstm, gru, attention: pass over invalid steps, where they give 0; `states => 'last'` consumes
//!   it.
//! - global_max_pool, global_avg_pool: pool the valid steps and consume it; without any: 0.
//! - flatten, reshape: put 0 at invalid steps and consume it.
//! - concat, add, dot: keep it; all inputs must have the same.

/// A layer whose windows shorten sequences: a convolution or pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Steps of the kernel.
    pub kernel: usize,
    /// Steps from one window to the next.
    pub stride: usize,
    /// Zeros before the first and after the last step.
    pub padding: [usize; 2],
    /// Steps from one value of the kernel to the next.
    pub dilation: usize,
}

impl Window {
    /// Outputs of `n` inputs: `(n + padding - dilation (kernel - 1) - 1) / stride + 1`, rounded
    /// down; 0 if no window fits.
    pub fn outputs(&self, n: usize) -> usize {
        let reach = self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1);
        let padded = n.saturating_add(self.padding[0]).saturating_add(self.padding[1]);
        match padded.checked_sub(reach) {
            Some(rest) => rest / self.stride.max(1) + 1,
            None => 0,
        }
    }
}

impl Window {
    /// Whether there are as many outputs as inputs, however many.
    fn keeps(&self) -> bool {
        let around = self.padding[0].saturating_add(self.padding[1]);
        self.stride == 1 && around == self.dilation.saturating_mul(self.kernel.saturating_sub(1))
    }
}

/// Where the number of valid steps comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    /// The index of the input whose length counts.
    pub input: usize,
    /// Its steps when padded.
    pub steps: usize,
    /// The windows between the input and here.
    pub windows: Vec<Window>,
}

impl Mask {
    /// The mask behind a window. (One with as many outputs as inputs changes nothing, so that the
    /// sequences before and behind it can be added.)
    pub fn behind(&self, window: Window) -> Self {
        let mut mask = self.clone();
        if !window.keeps() {
            mask.windows.push(window);
        }
        mask
    }

    /// Valid steps here, of a row with so many at the input. (A row without steps has none behind
    /// any window, whatever the padding.)
    pub fn valid(&self, length: usize) -> usize {
        let mut valid = length.min(self.steps);
        for window in &self.windows {
            valid = if valid == 0 { 0 } else { window.outputs(valid) };
        }
        valid
    }
}
