//! COPY into CSV files with [`CsvText`] in place of arrow's writer, which takes no lists and
//! structs and writes NULL and the empty text alike.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::file_options::csv_writer::CsvWriterOptions;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::file_format::csv::CsvSink;
use datafusion::datasource::file_format::write::BatchSerializer;
use datafusion::datasource::file_format::write::demux::DemuxedStreamReceiver;
use datafusion::datasource::file_format::write::orchestration::spawn_writer_tasks_and_join;
use datafusion::datasource::physical_plan::{FileSink, FileSinkConfig};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use object_store::ObjectStore;

use super::csv::CsvText;

/// The plan with this sink in place of DataFusion's.
pub(super) fn with_csv_text(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_down(|node| {
        let Some(own) = node.downcast_ref::<DataSinkExec>() else {
            return Ok(Transformed::no(node));
        };
        let Some(sink) = own.sink().downcast_ref::<CsvSink>() else {
            return Ok(Transformed::no(node));
        };
        let (config, options) = (sink.config().clone(), sink.writer_options().clone());
        let sink = Arc::new(CsvTextSink { config, options });
        let other = DataSinkExec::new(Arc::clone(own.input()), sink, own.sort_order().clone());
        Ok(Transformed::yes(Arc::new(other)))
    })
    .data()
}

#[derive(Debug)]
struct CsvTextSink {
    config: FileSinkConfig,
    options: CsvWriterOptions,
}

impl DisplayAs for CsvTextSink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CsvTextSink(file={})", self.config.original_url)
    }
}

#[async_trait]
impl FileSink for CsvTextSink {
    fn config(&self) -> &FileSinkConfig {
        &self.config
    }

    async fn spawn_writer_tasks_and_join(
        &self,
        context: &Arc<TaskContext>,
        demux_task: SpawnedTask<Result<()>>,
        file_stream_rx: DemuxedStreamReceiver,
        object_store: Arc<dyn ObjectStore>,
    ) -> Result<u64> {
        let serializer = Serializer(CsvText::new(self.options.writer_options.clone()));
        spawn_writer_tasks_and_join(
            context,
            Arc::new(serializer),
            self.options.compression.into(),
            self.options.compression_level,
            object_store,
            demux_task,
            file_stream_rx,
        )
        .await
    }
}

#[async_trait]
impl DataSink for CsvTextSink {
    fn schema(&self) -> &SchemaRef {
        self.config.output_schema()
    }

    async fn write_all(
        &self,
        data: SendableRecordBatchStream,
        context: &Arc<TaskContext>,
    ) -> Result<u64> {
        FileSink::write_all(self, data, context).await
    }
}

struct Serializer(CsvText);

impl BatchSerializer for Serializer {
    fn serialize(&self, batch: RecordBatch, initial: bool) -> Result<Bytes> {
        let mut text = vec![];
        if initial {
            self.0.header(&batch.schema(), &mut text);
        }
        self.0.rows(&batch, &mut text)?;
        Ok(text.into())
    }
}
