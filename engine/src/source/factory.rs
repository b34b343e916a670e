//! CREATE UNBOUNDED EXTERNAL TABLE.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::common::{Result, plan_err};
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::logical_expr::{CreateExternalTable, Expr};

use super::decode::{CsvOptions, Format, Header};
use super::folder::{Folder, FolderOptions, FolderSource};
use super::location::Location;
use super::options::{CSV, FOLDER, Pairs, SOCKET};
use super::pipe::PipeSource;
use super::socket::{Address, SocketSource};
use super::{Report, Source, SourceTable};
use crate::files::create_table;
use crate::object_stores;

/// The formats whose unbounded tables are sources, by their names in STORED AS.
pub const FORMATS: [&str; 5] = ["ARROW", "JSON", "NDJSON", "CSV", "PARQUET"];

/// Makes a [`SourceTable`] for an unbounded table, and a table of files for a bounded one.
#[derive(Debug, Default)]
pub struct SourceTableFactory;

#[async_trait]
impl TableProviderFactory for SourceTableFactory {
    async fn create(
        &self,
        state: &dyn Session,
        cmd: &CreateExternalTable,
    ) -> Result<Arc<dyn TableProvider>> {
        if !cmd.unbounded {
            return create_table(state, cmd).await;
        }
        let [location] = cmd.locations.as_slice() else {
            return plan_err!(
                "an unbounded table has one LOCATION, and {} are given",
                cmd.locations.len()
            );
        };
        if let Some(column) = cmd.table_partition_cols.first() {
            return plan_err!(
                "an unbounded table cannot be PARTITIONED BY {column}; leave it out and declare \
                 the column"
            );
        }
        let (of_store, options) = object_stores::split_options(&cmd.options);
        if let (false, Ok(url)) = (of_store.is_empty(), url::Url::parse(location)) {
            object_stores::register(state.runtime_env(), &url, &of_store)?;
        }
        let cmd = &CreateExternalTable { options, ..cmd.clone() };
        let format = cmd.file_type.to_uppercase();
        let source: Arc<dyn Source> = match format.as_str() {
            "PARQUET" => Arc::new(folder(state, cmd, location).await?),
            _ => bytes(state, cmd, location, &format)?,
        };
        check_order(cmd, &source.schema())?;
        let table = SourceTable::try_new(source, cmd.order_exprs.clone())?;
        Ok(Arc::new(table.with_definition(cmd.definition.clone())))
    }
}

/// A source of bytes.
fn bytes(
    state: &dyn Session,
    cmd: &CreateExternalTable,
    location: &str,
    name: &str,
) -> Result<Arc<dyn Source>> {
    let Some(schema) = declared(cmd) else {
        return plan_err!(
            "the columns of an unbounded {name} table must be declared: CREATE UNBOUNDED EXTERNAL \
             TABLE {} (x DOUBLE, ...) STORED AS {name} ...",
            cmd.name
        );
    };
    let place = Location::parse(location)?;
    let is_socket = matches!(place, Location::Tcp(_) | Location::Unix(_));
    let is_csv = name == "CSV";
    let known: Vec<_> = [(is_csv, CSV), (is_socket, SOCKET)]
        .into_iter()
        .filter_map(|(is, options)| is.then_some(options))
        .flatten()
        .copied()
        .collect();
    let what = format!("an unbounded {name} table at {location}");
    let options = Pairs::check(&cmd.options, &known, &what)?;
    let format = match name {
        "ARROW" => Format::Arrow,
        "CSV" => Format::Csv(CsvOptions {
            header: match options.given("has_header") {
                true if options.flag("has_header", true)? => Header::Always,
                false if state.config_options().catalog.has_header => Header::IfNamed,
                _ => Header::Never,
            },
            delimiter: options.character("delimiter", b',')?,
            quote: options.character("quote", b'"')?,
            newlines_in_values: options.flag("newlines_in_values", false)?,
        }),
        _ => Format::Json,
    };
    // Types that the format cannot hold are reported now, not when the first row arrives.
    format.decoder(&schema, location, &Arc::<Report>::default())?;
    let producers = options.count("producers")?;
    let socket =
        |address| SocketSource::new(address, location, format.clone(), schema.clone(), producers);
    Ok(match place {
        Location::StandardInput => Arc::new(PipeSource::standard_input(location, format, schema)),
        Location::Path(path) => Arc::new(PipeSource::at(&path, location, format, schema)?),
        Location::Tcp(address) => {
            if !address.ip().is_loopback() && !options.flag("listen.anywhere", false)? {
                return plan_err!(
                    "{location} listens to other machines, and whoever connects can send rows; \
                     write tcp://127.0.0.1:{}, or OPTIONS ('listen.anywhere' 'true') if that is \
                     meant",
                    address.port()
                );
            }
            Arc::new(socket(Address::Tcp(address)))
        }
        Location::Unix(path) => Arc::new(socket(Address::Unix(path))),
    })
}

/// A folder of Parquet files.
async fn folder(
    state: &dyn Session,
    cmd: &CreateExternalTable,
    location: &str,
) -> Result<FolderSource> {
    let is_bytes = matches!(
        Location::parse(location),
        Ok(Location::StandardInput | Location::Tcp(_) | Location::Unix(_))
    );
    if is_bytes {
        return plan_err!(
            "a Parquet file ends with its index, so it cannot be read as a stream of bytes; \
             {location} can be STORED AS ARROW, JSON or CSV"
        );
    }
    let has_glob = !location.contains("://") && location.contains(['*', '?', '[']);
    let is_file = !has_glob && (location.ends_with(".parquet") || is_local_file(location));
    if is_file {
        return plan_err!(
            "{location} is a file, and an unbounded PARQUET table watches a folder; name the \
             folder, or leave UNBOUNDED out"
        );
    }
    let what = format!("an unbounded PARQUET table at {location}");
    let options = Pairs::check(&cmd.options, FOLDER, &what)?;
    let options = FolderOptions {
        settle: options.duration("settle", std::time::Duration::from_secs(5))?,
        poll: options.duration("poll", std::time::Duration::from_millis(500))?,
        ends_when_empty: options.word("end", &["never", "when_empty"], "never")? == "when_empty",
    };
    let url = if has_glob || location.ends_with('/') {
        ListingTableUrl::parse(location)?
    } else {
        ListingTableUrl::parse(format!("{location}/"))?
    };
    let store = state.runtime_env().object_store(url.object_store())?;
    let folder = Folder { store, url, options, report: Arc::default() };
    let schema = match declared(cmd) {
        Some(schema) => schema,
        None => match folder.infer_schema().await? {
            Some(schema) => schema,
            None => {
                return plan_err!(
                    "{location} holds no Parquet file that tells the columns; declare them: CREATE \
                     UNBOUNDED EXTERNAL TABLE {} (x DOUBLE, ...) STORED AS PARQUET ...",
                    cmd.name
                );
            }
        },
    };
    Ok(FolderSource::new(folder, location, schema))
}

fn is_local_file(location: &str) -> bool {
    matches!(Location::parse(location), Ok(Location::Path(path)) if path.is_file())
}

/// The columns that the statement declares.
fn declared(cmd: &CreateExternalTable) -> Option<SchemaRef> {
    let fields = cmd.schema.fields();
    (!fields.is_empty()).then(|| Arc::new(Schema::new(fields.clone())))
}

/// WITH ORDER must name columns: an order by an expression could not be declared once a projection
/// drops one of its columns.
fn check_order(cmd: &CreateExternalTable, schema: &SchemaRef) -> Result<()> {
    for sort in cmd.order_exprs.iter().flatten() {
        let known = match &sort.expr {
            Expr::Column(column) => schema.column_with_name(&column.name).is_some(),
            _ => false,
        };
        if !known {
            return plan_err!(
                "WITH ORDER should name columns of the table, and {} is none",
                sort.expr
            );
        }
    }
    Ok(())
}
