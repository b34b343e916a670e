//! A table of files.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{ScanArgs, ScanResult, Session, TableProvider};
use datafusion::common::{
    Constraints, DFSchema, Result, ScalarValue, Statistics, exec_err, internal_err, plan_err,
};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl, PartitionedFile,
};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, wrap_partition_type_in_dict,
};
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{CreateExternalTable, Expr, SortExpr, TableProviderFilterPushDown};
use datafusion::physical_expr::{create_lex_ordering, create_physical_expr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion_datasource::compute_all_files_statistics;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use super::kind::{Format, Kind};
use super::listing::{Listing, list};
use super::location::Location;
use super::{partitions, widen};
use crate::object_stores;

/// Files of one format as a table.
#[derive(Debug)]
pub(crate) struct FileTable {
    locations: Vec<Location>,
    /// The files of the one location, if the table is for one statement alone; else they are listed
    /// again for each statement.
    listed: Option<Vec<ObjectMeta>>,
    format: Arc<dyn FileFormat>,
    /// The format that a statement names; listed files have the kind of the first listing.
    wanted: Option<Format>,
    file_schema: SchemaRef,
    partition_columns: Vec<FieldRef>,
    table_schema: SchemaRef,
    orders: Vec<Vec<SortExpr>>,
    definition: Option<String>,
    constraints: Constraints,
    column_defaults: HashMap<String, Expr>,
}

/// The table of the files of a location for one statement; what is not declared is inferred from
/// the files.
///
/// # Errors
/// When there is no such file, or it cannot be read.
pub(crate) async fn open(state: &SessionState, location: Location) -> Result<FileTable> {
    let listing = list(state.runtime_env(), &location, None).await?;
    let Some(kind) = listing.kind else {
        return plan_err!(
            "the name of {} does not tell its format; it should end with {}, or be named by \
             CREATE EXTERNAL TABLE t STORED AS ... LOCATION '{}'",
            location.text,
            super::ENDINGS,
            location.text
        );
    };
    let format = format_of(state, kind.format.name(), Some(kind), &HashMap::new())?;
    let store = state.runtime_env().object_store(&location.store)?;
    let file_schema = format.infer_schema(state, &store, &not_empty(&listing.files)).await?;
    let partition_columns = partitions::infer(&location, &listing.files)?;
    let wanted = Some(kind.format);
    let table = FileTable::new(vec![location], format, wanted, file_schema, partition_columns)?;
    Ok(FileTable { listed: Some(listing.files), ..table })
}

/// The table that CREATE EXTERNAL TABLE makes.
///
/// # Errors
/// As [`open`], and when what the statement declares does not fit.
pub(crate) async fn create_table(
    state: &dyn Session,
    command: &CreateExternalTable,
) -> Result<Arc<dyn TableProvider>> {
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return internal_err!("tables of files need DataFusion's own session");
    };
    let Some(wanted) = Format::of_name(&command.file_type) else {
        return plan_err!("STORED AS {} is no format that is known", command.file_type);
    };
    let (own, options) = object_stores::split_options(&command.options);
    let mut locations = vec![];
    for text in &command.locations {
        let location = Location::parse(text)?;
        if !own.is_empty() {
            object_stores::register(state.runtime_env(), location.store.as_ref(), &own)?;
        }
        if locations.iter().any(|other: &Location| other.text == location.text) {
            return plan_err!("LOCATION names {text} twice");
        }
        locations.push(location);
    }
    let Some(first) = locations.first() else {
        return plan_err!("CREATE EXTERNAL TABLE needs a LOCATION");
    };
    if let Some(other) = locations.iter().find(|other| other.store != first.store) {
        return plan_err!(
            "the files of a table are in one object store, and {} and {} are not",
            first.text,
            other.text
        );
    }
    let is_declared = !command.schema.fields().is_empty();
    let mut listings = vec![];
    for location in &locations {
        listings.push(match list(state.runtime_env(), location, Some(wanted)).await {
            Ok(listing) => listing,
            // A table can be declared before its files are written.
            Err(_) if is_declared => Listing { kind: None, files: vec![] },
            Err(error) => return Err(error),
        });
    }
    let kind = listings.iter().find_map(|listing| listing.kind);
    let format = format_of(state, &command.file_type, kind, &options)?;
    let files: Vec<ObjectMeta> =
        listings.iter().flat_map(|listing| listing.files.iter().cloned()).collect();
    let (file_schema, partition_columns) = if is_declared {
        declared(command)?
    } else {
        let store = state.runtime_env().object_store(&first.store)?;
        let schema = format.infer_schema(state, &store, &not_empty(&files)).await?;
        let mut columns = partitions::infer(first, &listings[0].files)?;
        let named = &command.table_partition_cols;
        if !named.is_empty() {
            if let Some(name) = named.iter().find(|n| columns.iter().all(|c| c.name() != *n)) {
                return plan_err!("PARTITIONED BY names {name}, which no folder of the files does");
            }
            columns.retain(|column| named.contains(column.name()));
        }
        (schema, columns)
    };
    let mut table =
        FileTable::new(locations, format, Some(wanted), file_schema, partition_columns)?;
    for column in command.order_exprs.iter().flatten().flat_map(|sort| sort.expr.column_refs()) {
        if table.table_schema.column_with_name(&column.name).is_none() {
            return plan_err!("WITH ORDER names {column}, which is no column of the table");
        }
    }
    table.orders.clone_from(&command.order_exprs);
    table.definition.clone_from(&command.definition);
    table.constraints = command.constraints.clone();
    table.column_defaults.clone_from(&command.column_defaults);
    Ok(Arc::new(table))
}

/// The columns of the files and of their folders, as the statement declares them.
fn declared(command: &CreateExternalTable) -> Result<(SchemaRef, Vec<FieldRef>)> {
    let schema: &SchemaRef = command.schema.inner();
    let names = &command.table_partition_cols;
    let mut partition_columns = vec![];
    for name in names {
        let Some((_, field)) = schema.fields().find(name) else {
            return plan_err!("PARTITIONED BY names {name}, which is not declared");
        };
        partition_columns.push(Arc::clone(field));
    }
    let is_of_files = |field: &&FieldRef| !names.contains(field.name());
    let fields: Vec<FieldRef> = schema.fields().iter().filter(is_of_files).cloned().collect();
    Ok((Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), partition_columns))
}

/// The format of the files, from their names and the statement.
fn format_of(
    state: &SessionState,
    name: &str,
    kind: Option<Kind>,
    options: &HashMap<String, String>,
) -> Result<Arc<dyn FileFormat>> {
    let Some(factory) = state.get_file_format_factory(name) else {
        return plan_err!("STORED AS {name} is no format that is known");
    };
    let mut options = options.clone();
    let is_set = |options: &HashMap<String, String>, key: &str| {
        options.keys().any(|k| k.strip_prefix("format.").unwrap_or(k).eq_ignore_ascii_case(key))
    };
    if let Some(kind) = kind {
        let is_text = matches!(kind.format, Format::Csv | Format::Tsv | Format::Json);
        if is_text && !is_set(&options, "compression") {
            options.insert("format.compression".to_owned(), kind.compression.to_string());
        }
        if kind.format == Format::Tsv && !is_set(&options, "delimiter") {
            options.insert("format.delimiter".to_owned(), "\t".to_owned());
        }
    }
    factory.create(state, &options)
}

/// Files without a byte say nothing about columns.
fn not_empty(files: &[ObjectMeta]) -> Vec<ObjectMeta> {
    files.iter().filter(|file| file.size > 0).cloned().collect()
}

impl FileTable {
    fn new(
        locations: Vec<Location>,
        format: Arc<dyn FileFormat>,
        wanted: Option<Format>,
        file_schema: SchemaRef,
        mut partition_columns: Vec<FieldRef>,
    ) -> Result<Self> {
        // Some writers keep the column in the file as well.
        partition_columns.retain(|column| file_schema.column_with_name(column.name()).is_none());
        let mut fields = file_schema.fields().to_vec();
        fields.extend(partition_columns.iter().cloned());
        let table_schema = Schema::new_with_metadata(fields, file_schema.metadata().clone());
        widen::refuse_duplicates("the table", &table_schema)?;
        Ok(Self {
            locations,
            listed: None,
            format,
            wanted,
            file_schema,
            partition_columns,
            table_schema: Arc::new(table_schema),
            orders: vec![],
            definition: None,
            constraints: Constraints::default(),
            column_defaults: HashMap::new(),
        })
    }

    /// The files whose folders pass the filters, in the order of their paths, with what their
    /// footers say.
    async fn files(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let mut files: Vec<PartitionedFile> = vec![];
        for location in &self.locations {
            let found = match &self.listed {
                Some(listed) => listed.clone(),
                None => match list(state.runtime_env(), location, self.wanted).await {
                    Ok(listing) => listing.files,
                    // Declared, and not written yet.
                    Err(_) if location.is_folder && location.pattern.is_none() => vec![],
                    Err(error) => return Err(error),
                },
            };
            for meta in found {
                let values = partitions::values(location, &meta, &self.partition_columns)?;
                let mut file = PartitionedFile::new_from_meta(meta);
                file.partition_values = values;
                files.push(file);
            }
        }
        let files = self.pruned(state, files, filters)?;
        let mut seen = std::collections::HashSet::new();
        let files = files.into_iter().filter(|f| seen.insert(f.object_meta.location.clone()));
        let Some(first) = self.locations.first() else { return Ok(vec![]) };
        let store = state.runtime_env().object_store(&first.store)?;
        let at_once = state.config_options().execution.meta_fetch_concurrency.get();
        let with_statistics = state.config().collect_statistics();
        futures::stream::iter(files)
            .map(|file| async {
                if !with_statistics {
                    let unknown = Statistics::new_unknown(&self.file_schema);
                    return Ok(file.with_statistics(Arc::new(unknown)));
                }
                let schema = Arc::clone(&self.file_schema);
                let format = &self.format;
                let meta = format
                    .infer_stats_and_ordering(state, &store, schema, &file.object_meta)
                    .await?;
                Ok(file.with_statistics(Arc::new(meta.statistics)).with_ordering(meta.ordering))
            })
            .buffered(at_once)
            .try_collect()
            .await
    }

    /// Those files whose folders pass the filters.
    fn pruned(
        &self,
        state: &dyn Session,
        files: Vec<PartitionedFile>,
        filters: &[Expr],
    ) -> Result<Vec<PartitionedFile>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files) };
        if files.is_empty() {
            return Ok(files);
        }
        let schema = Arc::new(Schema::new(self.partition_columns.clone()));
        let column = |i: usize| -> Result<ArrayRef> {
            ScalarValue::iter_to_array(files.iter().map(|file| file.partition_values[i].clone()))
        };
        let columns = (0..schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        let filter = create_physical_expr(
            &filter,
            &DFSchema::try_from(schema)?,
            state.execution_props(),
            &PhysicalPlanningContext::default(),
        )?;
        let passes = filter.evaluate(&batch)?.into_array(files.len())?;
        let Some(passes) = passes.as_boolean_opt() else {
            return exec_err!("a filter of partitions is no boolean");
        };
        let files = files.into_iter().zip(passes).filter(|(_, passes)| *passes == Some(true));
        Ok(files.map(|(file, _)| file).collect())
    }

    /// Whether a filter is about the columns of folders alone.
    fn is_of_partitions(&self, filter: &Expr) -> bool {
        let is_own = |name: &str| self.partition_columns.iter().any(|c| c.name() == name);
        !self.partition_columns.is_empty()
            && !filter.is_volatile()
            && filter.column_refs().iter().all(|column| is_own(&column.name))
    }
}

#[async_trait]
impl TableProvider for FileTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table_schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_table_definition(&self) -> Option<&str> {
        self.definition.as_deref()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.column_defaults.get(column)
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.is_of_partitions(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let args = ScanArgs::default()
            .with_projection(projection.map(Vec::as_slice))
            .with_filters(Some(filters))
            .with_limit(limit);
        Ok(self.scan_with_args(state, args).await?.into_inner())
    }

    async fn scan_with_args<'a>(
        &self,
        state: &dyn Session,
        args: ScanArgs<'a>,
    ) -> Result<ScanResult> {
        let projection = args.projection().map(<[usize]>::to_vec);
        let filters = args.filters().unwrap_or_default();
        let of_partitions: Vec<Expr> =
            filters.iter().filter(|filter| self.is_of_partitions(filter)).cloned().collect();
        let files = self.files(state, &of_partitions).await?;
        let Some(first) = self.locations.first().filter(|_| !files.is_empty()) else {
            let schema =
                datafusion::physical_plan::project_schema(&self.table_schema, projection.as_ref())?;
            return Ok(ScanResult::new(Arc::new(EmptyExec::new(schema))));
        };
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let with_statistics = state.config().collect_statistics();
        let schema = Arc::clone(&self.table_schema);
        let (groups, statistics) =
            compute_all_files_statistics(groups, schema, with_statistics, false)?;
        let orders =
            create_lex_ordering(&self.table_schema, &self.orders, state.execution_props())?;
        let schema = TableSchemaBuilder::from(&self.file_schema)
            .with_table_partition_cols(self.partition_columns.clone())
            .build();
        let source = self.format.file_source(schema);
        let config = FileScanConfigBuilder::new(first.store.clone(), source)
            .with_file_groups(groups)
            .with_constraints(self.constraints.clone())
            .with_statistics(statistics)
            .with_projection_indices(projection)?
            .with_limit(args.limit())
            .with_output_ordering(orders)
            .build();
        Ok(ScanResult::new(self.format.create_physical_plan(state, config).await?))
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(first) = self.locations.first() else {
            return plan_err!("the table has no LOCATION to insert into");
        };
        if !first.is_folder || first.pattern.is_some() {
            return plan_err!(
                "rows are inserted into a folder, and {} is none; name a folder that ends with a \
                 slash",
                first.text
            );
        }
        let text =
            if first.text.ends_with('/') { first.text.clone() } else { format!("{}/", first.text) };
        let columns = self.partition_columns.iter().map(|column| {
            let data_type = match column.data_type() {
                DataType::Dictionary(_, _) => wrap_partition_type_in_dict(DataType::Utf8),
                other => other.clone(),
            };
            (column.name().clone(), data_type)
        });
        let options = ListingOptions::new(Arc::clone(&self.format))
            .with_file_extension("")
            .with_table_partition_cols(columns.collect());
        let config = ListingTableConfig::new(ListingTableUrl::parse(text)?)
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.file_schema));
        ListingTable::try_new(config)?.insert_into(state, input, operation).await
    }
}
