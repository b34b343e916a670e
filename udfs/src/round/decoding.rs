//! A round over rows that have bytes: each chunk is read as numbers before its replica learns.

use std::sync::Arc;

use datafusion_common::Result;

use super::{Partial, Replica, Round};
use crate::batch::{Decoder, MiniBatch, Width};

/// Runs a round of decoded rows over rows whose bytes are stored as bytes.
#[derive(Debug)]
pub struct DecodingRound {
    inner: Arc<dyn Round>,
    decoder: Arc<Decoder>,
    /// Rows of a chunk at most.
    chunk_rows: usize,
}

impl DecodingRound {
    /// The round over chunks of up to `chunk_rows` rows, which `decoder` reads.
    pub fn new(inner: Arc<dyn Round>, decoder: Arc<Decoder>, chunk_rows: usize) -> Self {
        Self { inner, decoder, chunk_rows }
    }
}

impl Round for DecodingRound {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn width(&self) -> Width {
        let Width { categories, targets, .. } = self.inner.width();
        Width { categories, targets, ..self.decoder.width() }
    }

    fn replica(&self, index: u32) -> Result<Box<dyn Replica>> {
        let (inner, decoder) = (self.inner.replica(index)?, Arc::clone(&self.decoder));
        Ok(Box::new(DecodingReplica { inner, decoder, dense: vec![] }))
    }

    fn merge(&self, partials: Vec<Partial>) -> Result<Vec<u8>> {
        self.inner.merge(partials)
    }

    fn replica_bytes(&self) -> usize {
        4 * self.chunk_rows * self.decoder.width().decoded().dense + self.inner.replica_bytes()
    }
}

#[derive(Debug)]
struct DecodingReplica {
    inner: Box<dyn Replica>,
    decoder: Arc<Decoder>,
    /// The numbers `[rows, d]` of a chunk.
    dense: Vec<f32>,
}

impl Replica for DecodingReplica {
    fn update(&mut self, rows: &MiniBatch<'_>) -> Result<()> {
        self.inner.update(&self.decoder.decode(rows, &mut self.dense))
    }

    fn update_gathered(
        &mut self,
        chunk: &MiniBatch<'_>,
        indices: &[u32],
        _next: Option<&MiniBatch<'_>>,
    ) -> Result<()> {
        let chunk = self.decoder.decode(chunk, &mut self.dense);
        self.inner.update_gathered(&chunk, indices, None)
    }

    fn finish(&mut self) -> Result<Vec<u8>> {
        self.inner.finish()
    }
}
