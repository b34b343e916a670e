//! The source of a scan of files of texts.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::DisplayFormatType;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use object_store::ObjectStore;

use super::text_format::{TextFormat, Texts, Wanted};

/// Reads files of one format.
pub(super) struct TextSource<F: TextFormat> {
    table_schema: TableSchema,
    projection: SplitProjection,
    texts: Arc<Texts<F>>,
    batch_size: Option<usize>,
    has_ranges: bool,
    metrics: ExecutionPlanMetricsSet,
}

// (A derived one would ask for a format that can be cloned.)
impl<F: TextFormat> Clone for TextSource<F> {
    fn clone(&self) -> Self {
        Self {
            table_schema: self.table_schema.clone(),
            projection: self.projection.clone(),
            texts: Arc::clone(&self.texts),
            batch_size: self.batch_size,
            has_ranges: self.has_ranges,
            metrics: self.metrics.clone(),
        }
    }
}

impl<F: TextFormat> TextSource<F> {
    pub(super) fn new(table_schema: TableSchema, texts: Arc<Texts<F>>) -> Self {
        Self {
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            texts,
            batch_size: None,
            has_ranges: false,
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same source; whether its files may be cut between lines.
    pub(super) fn with_ranges(self, has_ranges: bool) -> Self {
        Self { has_ranges, ..self }
    }
}

impl<F: TextFormat> FileSource for TextSource<F> {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        _: &FileScanConfig,
        _: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let Some(batch_size) = self.batch_size else {
            return internal_err!("the rows of a batch are not said");
        };
        let table = self.table_schema.file_schema();
        let places = self.projection.file_indices.clone();
        let schema = Arc::new(table.project(&places)?);
        let wanted = Wanted { table: Arc::clone(table), places, schema, batch_size };
        let opener = TextOpener { texts: Arc::clone(&self.texts), wanted, store };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), table)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        F::NAME
    }

    fn supports_repartitioning(&self) -> bool {
        self.has_ranges
    }

    fn fmt_extra(&self, kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            DisplayFormatType::TreeRender => Ok(()),
            _ => f.write_str(&self.texts.format.shown()),
        }
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens files with the columns that are wanted.
struct TextOpener<F: TextFormat> {
    texts: Arc<Texts<F>>,
    wanted: Wanted,
    store: Arc<dyn ObjectStore>,
}

impl<F: TextFormat> FileOpener for TextOpener<F> {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let (texts, wanted) = (Arc::clone(&self.texts), self.wanted.clone());
        let store = Arc::clone(&self.store);
        Ok(Box::pin(async move {
            let layout = texts.layout(&store, &file.object_meta).await?;
            texts.format.open(&layout, wanted, store, file).await
        }))
    }
}
