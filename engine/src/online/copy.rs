//! COPY of an unbounded table into a folder of Parquet files: each row exactly once, across
//! restarts.
//!
//! Files are numbered. The footer of each records which rows of the source are in the files so far.
//! A file is created atomically and only once, so the newest file is the checkpoint, and two
//! processes cannot both write the same rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::config::{ConfigFileType, TableParquetOptions};
use datafusion::common::{Result, exec_datafusion_err, exec_err, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::dml::CopyTo;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::query::StreamQuery;
use crate::event::{Event, EventSink};
use crate::options::PublishEvery;
use crate::session::Engine;
use crate::source::{Cursor, Ledger, ROW_COLUMN};
use crate::store::{Files, failpoints};

/// The key in the footer of a file that holds the stream position.
const KEY: &str = "gradlake.stream";
/// Version of the format of the position. The first version tracked folders by the order of names
/// and is still read; a later one is refused.
const FORMAT: u32 = 2;
/// When a file is written by default.
const COMMIT_EVERY: PublishEvery = PublishEvery::Time(Duration::from_secs(10));
/// A file is written when it would take more memory than this, whatever `commit_every` says.
const MOST_BYTES: usize = 128 << 20;
/// How often an idle stream checks whether a file is due.
const TICK: Duration = Duration::from_millis(50);

/// The stream position after the files so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    format: u32,
    /// The query whose rows the files hold.
    query: String,
    /// Number of the newest file, from 1.
    file: u64,
    /// Rows in all files.
    rows: u64,
    /// Rows of the source below this ordinal are in the files, or were filtered out by the query.
    consumed: u64,
    /// The ordinal at which reading resumes: before `consumed` if windows look back.
    from: u64,
    /// The cursors of the source's partitions at `from`.
    cursors: Vec<Cursor>,
}

/// The columns of the rows that COPY of a stream returns, one row a file.
fn report_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("file", DataType::Utf8, false),
        Field::new("rows", DataType::Int64, false),
        Field::new("total_rows", DataType::Int64, false),
    ]))
}

impl Engine {
    /// Runs COPY of an unbounded table and returns a row for each file: its name, its rows, and the
    /// rows of all files. `text` is the copied query; the same one resumes at the position of the
    /// newest file. [`Engine::interrupt`] ends it with a last file.
    ///
    /// # Errors
    /// When the query or the options do not allow it, or the folder has other files.
    pub async fn copy_stream(
        self: &Arc<Self>,
        copy: &CopyTo,
        text: String,
        events: &EventSink,
    ) -> Result<SendableRecordBatchStream> {
        let copying = Copying::open(self, copy, text, events).await?;
        let rows = futures::stream::try_unfold(copying, |mut copying| async move {
            Ok(copying.next_file().await?.map(|row| (row, copying)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(report_schema(), rows.boxed())))
    }
}

/// A COPY that runs.
struct Copying {
    engine: Arc<Engine>,
    query: StreamQuery,
    files: Files,
    commit_every: PublishEvery,
    properties: WriterProperties,
    schema: SchemaRef,
    ledger: Arc<Ledger>,
    /// None once the input has ended.
    input: Option<SendableRecordBatchStream>,
    writer: Option<ArrowWriter<Vec<u8>>>,
    memory: MemoryReservation,
    /// The ordinal after the last row that was written.
    consumed: u64,
    /// Rows in the file that is being written.
    pending: u64,
    since: Instant,
    place: Place,
}

impl Copying {
    async fn open(
        engine: &Arc<Engine>,
        copy: &CopyTo,
        text: String,
        events: &EventSink,
    ) -> Result<Self> {
        let Some(query) = StreamQuery::of(&copy.input)? else {
            return plan_err!("the query of COPY reads no unbounded table");
        };
        let schema: SchemaRef = Arc::clone(copy.input.schema().inner());
        let (commit_every, properties) = options(engine, copy, &schema)?;
        let files = folder(engine, copy)?;
        let place = place(&files, &copy.output_url, text).await?;
        let ledger = Arc::new(Ledger::new(place.from, place.cursors.clone()));
        let from = (place.file > 0).then(|| place.cursors.clone());
        let input = engine.run_in_order(&query.numbered(&ledger, from)?).await?;
        let pool = &engine.context().runtime_env().memory_pool;
        let memory = MemoryConsumer::new("COPY of a stream").register(pool);
        query.warn_of_losses("the last file", events);
        engine.interrupt.clear();
        events(Event::Copying);
        Ok(Self {
            engine: Arc::clone(engine),
            query,
            files,
            commit_every,
            properties,
            schema,
            ledger,
            input: Some(input),
            writer: None,
            memory,
            consumed: place.consumed,
            pending: 0,
            since: Instant::now(),
            place,
        })
    }

    /// Writes rows until a file is due, and returns the row that reports it; None at the end.
    async fn next_file(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let left = self.query.limit.map(|n| n.saturating_sub(self.place.rows + self.pending));
            if left == Some(0) || self.engine.interrupt.check().is_err() {
                self.input = None;
            }
            let Some(input) = &mut self.input else {
                return match self.pending {
                    0 => Ok(None),
                    _ => self.commit().await.map(Some),
                };
            };
            match tokio::time::timeout(TICK, input.next()).await {
                Ok(Some(batch)) => self.take(&batch?, left)?,
                Ok(None) => self.input = None,
                Err(_) => {}
            }
            if self.is_due() {
                return self.commit().await.map(Some);
            }
        }
    }

    fn is_due(&self) -> bool {
        let wanted = match self.commit_every {
            PublishEvery::Rows(rows) => self.pending >= rows,
            PublishEvery::Time(time) => self.since.elapsed() >= time,
        };
        self.pending > 0 && (wanted || self.memory.size() >= MOST_BYTES)
    }

    /// Writes the rows of a batch that are in no file yet.
    fn take(&mut self, batch: &RecordBatch, left: Option<u64>) -> Result<()> {
        // The column is where the query projects it, not always last.
        let Ok(number) = batch.schema_ref().index_of(ROW_COLUMN) else {
            return exec_err!("rows of the query have lost their numbers");
        };
        let numbers = batch.column(number).as_primitive::<UInt64Type>().values();
        let old = numbers.partition_point(|row| *row < self.place.consumed);
        let fresh = (numbers.len() - old).min(left.map_or(usize::MAX, |left| left as usize));
        let Some(last) = numbers[old..old + fresh].last() else { return Ok(()) };
        let mut columns = batch.slice(old, fresh).columns().to_vec();
        columns.remove(number);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let (schema, properties) = (Arc::clone(&self.schema), self.properties.clone());
                none.insert(ArrowWriter::try_new(vec![], schema, Some(properties))?)
            }
        };
        writer.write(&rows)?;
        self.memory.try_resize(writer.memory_size() + writer.bytes_written())?;
        self.consumed = last + 1;
        self.pending += fresh as u64;
        Ok(())
    }

    /// Creates the file of the pending rows.
    async fn commit(&mut self) -> Result<RecordBatch> {
        let Some(mut writer) = self.writer.take() else {
            return exec_err!("there are no rows to write");
        };
        let reach = self.query.reach.unwrap_or(0);
        let from = self.consumed.saturating_sub(reach);
        let place = Place {
            file: self.place.file + 1,
            rows: self.place.rows + self.pending,
            consumed: self.consumed,
            from,
            cursors: self.ledger.cursors_between(from, self.consumed),
            ..self.place.clone()
        };
        let json = serde_json::to_string(&place)
            .map_err(|e| exec_datafusion_err!("the place of a file cannot be written: {e}"))?;
        writer.append_key_value_metadata(KeyValue::new(KEY.to_owned(), json));
        let name = file_name(place.file);
        failpoints::pass("copy-before-file");
        if !self.files.create(&name, writer.into_inner()?).await? {
            return exec_err!(
                "{name} was written by another COPY in the meantime; only one statement may write \
                 a folder"
            );
        }
        failpoints::pass("copy-after-file");
        self.ledger.forget_before(from);
        self.memory.free();
        self.since = Instant::now();
        let rows = std::mem::take(&mut self.pending);
        self.place = place;
        Ok(RecordBatch::try_new(
            report_schema(),
            vec![
                Arc::new(StringArray::from(vec![name])),
                Arc::new(Int64Array::from(vec![rows as i64])),
                Arc::new(Int64Array::from(vec![self.place.rows as i64])),
            ],
        )?)
    }
}

fn file_name(number: u64) -> String {
    format!("part-{number:012}.parquet")
}

/// Parses OPTIONS: when a file is committed, and how Parquet is written.
fn options(
    engine: &Engine,
    copy: &CopyTo,
    schema: &SchemaRef,
) -> Result<(PublishEvery, WriterProperties)> {
    let format = copy.file_type.get_ext();
    if format.trim_start_matches('.') != "parquet" {
        return plan_err!(
            "COPY of an unbounded table writes Parquet, whose footers say which rows are written, \
             but STORED AS {} was asked for",
            format.to_uppercase()
        );
    }
    if !copy.partition_by.is_empty() {
        return plan_err!(
            "COPY of an unbounded table writes one file after another and takes no PARTITIONED BY"
        );
    }
    let mut given = copy.options.clone();
    let commit_every = match given.remove("format.commit_every").or(given.remove("commit_every")) {
        Some(text) => PublishEvery::of_text("commit_every", &text)?,
        None => COMMIT_EVERY,
    };
    let mut table = engine.context().state().default_table_options();
    table.set_config_format(ConfigFileType::PARQUET);
    table.alter_with_string_hash_map(&given)?;
    let mut parquet: TableParquetOptions = table.parquet;
    parquet.arrow_schema(schema);
    let builder = WriterPropertiesBuilder::try_from(&parquet)?;
    Ok((commit_every, builder.build()))
}

/// The files of the folder that COPY names.
fn folder(engine: &Engine, copy: &CopyTo) -> Result<Files> {
    let url = &copy.output_url;
    let name = url.rsplit('/').next().unwrap_or_default();
    if name.contains('.') && !name.trim_matches('.').is_empty() {
        return plan_err!(
            "COPY of an unbounded table writes file after file into a folder, but '{url}' names \
             one file; write '{url}/' if it is a folder"
        );
    }
    let url = ListingTableUrl::parse(format!("{}/", url.trim_end_matches('/')))?;
    let store = engine.context().runtime_env().object_store(&url)?;
    let local = match url.scheme() {
        "file" => url.get_url().to_file_path().ok(),
        _ => None,
    };
    Ok(Files::new("COPY", store, url.prefix().clone(), local))
}

/// The stream position after the files of a folder.
async fn place(files: &Files, folder: &str, query: String) -> Result<Place> {
    let names = files.names("").await?;
    let mut names: Vec<&String> = names.iter().filter(|name| !name.starts_with('.')).collect();
    if let Some(foreign) = names.iter().find(|name| !is_ours(name)) {
        return plan_err!(
            "the folder {folder} holds {foreign}, which no COPY of a stream wrote; name an empty \
             folder"
        );
    }
    let Some(newest) = names.pop() else {
        return Ok(Place {
            format: FORMAT,
            query,
            file: 0,
            rows: 0,
            consumed: 0,
            from: 0,
            cursors: vec![],
        });
    };
    let what = format!("{folder}/{newest}").replace("//", "/");
    let Some(bytes) = files.read(newest).await? else {
        return exec_err!("{what} was deleted while COPY began; run the statement again");
    };
    let place = place_of(bytes).map_err(|why| {
        exec_datafusion_err!(
            "{what} does not say where the stream stands: {why}; name an empty folder"
        )
    })?;
    if place.query != query {
        return plan_err!(
            "the folder {folder} has the rows of another query ({}); name an empty folder",
            place.query
        );
    }
    Ok(place)
}

fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix("part-").and_then(|rest| rest.strip_suffix(".parquet"));
    number.is_some_and(|n| n.len() == 12 && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the stream position in the footer of a file.
fn place_of(bytes: Vec<u8>) -> std::result::Result<Place, String> {
    let bytes = bytes::Bytes::from(bytes);
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&bytes)
        .map_err(|error| format!("it is no Parquet file ({error})"))?;
    let pairs = metadata.file_metadata().key_value_metadata();
    let text = pairs
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == KEY))
        .and_then(|pair| pair.value.as_deref())
        .ok_or_else(|| format!("its footer has no {KEY}"))?;
    let place: Place =
        serde_json::from_str(text).map_err(|error| format!("its {KEY} is damaged ({error})"))?;
    if !(1..=FORMAT).contains(&place.format) {
        return Err(format!("it has format {}, and this program reads {FORMAT}", place.format));
    }
    Ok(Place { format: FORMAT, ..place })
}
