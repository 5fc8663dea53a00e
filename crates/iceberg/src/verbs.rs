//! Statements as snapshots, or as metadata alone.

use crate::IcebergTable;
use crate::clean::{GC, MAX_AGE, Retention, clean};
use crate::edits::{self, Edited};
use crate::metastore;
use crate::place::{Found, Place};
use crate::produce::{self, Change, Outcome};
use crate::rest::{Entry, Locate};
use crate::table::number;
use crate::types::{arrow_type, columns, iceberg_type};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::execution::SessionState;
use iceberg::TableUpdate;
use iceberg::spec::{
    FormatVersion, NestedField, NestedFieldRef, Operation, PrimitiveType, Schema, SnapshotReference, SortOrder,
    TableMetadataBuilder, Transform, Type, UnboundPartitionSpec,
};
use rivermere_store::InCatalog;
use rivermere_table::{Done, EditableTable, Location, PartitionField, Table as _, TableError, TableSpec, Verb};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const CREATE: &str = "CREATE EXTERNAL TABLE";
/// Where a snapshot names its statement.
const STATEMENT: &str = "rivermere.statement";
/// The property that names the sink that writes the table.
pub(crate) const OWNER: &str = "rivermere.sink";
/// Attempts to commit rows that depend on nothing that others do.
const ATTEMPTS: u64 = 16;

impl IcebergTable {
    /// Makes a table without rows, of format version 2, or of the one that the property `format-version` says.
    ///
    /// # Errors
    /// When there is one, or its columns cannot be those of an Iceberg table.
    pub async fn create(location: Location, spec: &TableSpec) -> Result<Self, TableError> {
        let shown = location.to_string();
        let failed = |error: iceberg::Error| unmade(&shown, &error);
        let Made { schema, partitions, version, properties } = made(&shown, spec)?;
        let place = Place::new(location.clone());
        let builder = TableMetadataBuilder::new(
            schema,
            partitions,
            SortOrder::unsorted_order(),
            url_of(&location),
            version,
            properties,
        );
        let metadata = builder.and_then(TableMetadataBuilder::build).map_err(failed)?.metadata;
        match place.newest().await {
            Err(TableError::Missing { .. }) => {}
            Ok(_) => {
                return Err(TableError::Verb {
                    location: location.to_string(),
                    verb: CREATE,
                    reason: "there is a table already".into(),
                });
            }
            Err(error) => return Err(error),
        }
        match produce::put(&place, 1, &metadata).await? {
            Outcome::Committed(_) => Self::open(location).await,
            Outcome::Lost => Err(TableError::Conflict { location: location.to_string(), attempts: 1 }),
        }
    }

    /// The same in a catalog, which says where its files are.
    ///
    /// # Errors
    /// Like [`IcebergTable::create`].
    pub async fn create_in(catalog: InCatalog, locate: &Locate, spec: &TableSpec) -> Result<Self, TableError> {
        let shown = catalog.shown().to_owned();
        let Made { schema, partitions, version, mut properties } = made(&shown, spec)?;
        let table = match catalog {
            InCatalog::Rest(table) => {
                properties.insert("format-version".into(), if version == FormatVersion::V3 { "3" } else { "2" }.into());
                let entry = Entry::new(table);
                let loaded = entry.create(&schema, &partitions, &properties).await?;
                return Self::loaded(entry, loaded, locate).await;
            }
            InCatalog::Metastore(table) => table,
        };
        let taken =
            || TableError::Verb { location: shown.clone(), verb: CREATE, reason: "there is a table already".into() };
        match metastore::described(&table).await {
            Err(TableError::Missing { .. }) => {}
            there => return Err(there.err().unwrap_or_else(taken)),
        }
        let failed = |error| TableError::storage("asking the catalog", shown.clone(), error);
        let url = table.new_location().await.map_err(failed)?;
        let place = Place::new(locate(&url)?);
        let unmade = |error: iceberg::Error| unmade(&shown, &error);
        let sorted = SortOrder::unsorted_order();
        let builder =
            TableMetadataBuilder::new(schema, partitions, sorted, url, version, properties).map_err(unmade)?;
        let metadata = builder.build().map_err(unmade)?.metadata;
        match metastore::create(&place, &table, &metadata).await? {
            true => Self::open_in(InCatalog::Metastore(table), locate).await,
            false => Err(taken()),
        }
    }

    pub(crate) fn refused(&self, verb: &'static str, reason: impl Into<String>) -> TableError {
        TableError::Verb { location: self.place().location.to_string(), verb, reason: reason.into() }
    }

    /// Nothing is written to a table whose newest metadata a catalog decides.
    fn writable(&self, found: &Found, verb: &'static str) -> Result<(), TableError> {
        self.place().unwritable(found).map_or(Ok(()), |reason| Err(self.refused(verb, reason)))
    }

    /// Whether a snapshot after `base` is that of a statement.
    fn has(&self, found: &Found, statement: &str) -> bool {
        let is_it = |text: &String| text == statement;
        found
            .metadata
            .table
            .snapshots()
            .any(|snapshot| snapshot.summary().additional_properties.get(STATEMENT).is_some_and(is_it))
    }

    /// Makes a change over `found`; with more attempts, over what others have left meanwhile.
    async fn commit(
        &self,
        found: &Arc<Found>,
        change: Change,
        statement: &str,
        attempts: u64,
    ) -> Result<Arc<Found>, TableError> {
        let shape = |found: &Found| {
            let table = &found.metadata.table;
            (table.uuid(), table.current_schema_id(), table.default_partition_spec_id())
        };
        let (first, mut found) = (shape(found), found.clone());
        for _ in 0..attempts {
            match produce::commit(self.place(), &found, change.clone()).await {
                Ok(Outcome::Committed(newest)) => return Ok(newest),
                Ok(Outcome::Lost) => found = self.place().newest().await?,
                Err(error) => {
                    // The answer may have been lost, and not the commit.
                    return match self.place().newest().await {
                        Ok(newest) if self.has(&newest, statement) => Ok(newest),
                        _ => Err(error),
                    };
                }
            }
            if self.has(&found, statement) {
                return Ok(found);
            }
            if shape(&found) != first {
                break;
            }
        }
        Err(TableError::Conflict { location: self.place().location.to_string(), attempts })
    }

    async fn publish(&self, found: &Found, updates: Vec<TableUpdate>) -> Result<Arc<Found>, TableError> {
        match produce::publish(self.place(), found, updates).await? {
            Outcome::Committed(newest) => Ok(newest),
            Outcome::Lost => Err(TableError::Conflict { location: self.place().location.to_string(), attempts: 1 }),
        }
    }

    /// A schema like the newest, but for what `change` does to its columns; ids are counted on from those there ever were.
    async fn altered(
        &self,
        found: &Found,
        verb: &'static str,
        change: impl FnOnce(&mut Vec<NestedFieldRef>, &mut i32) -> Result<(), String>,
    ) -> Result<Arc<Found>, TableError> {
        let table = &found.metadata.table;
        let mut fields = table.current_schema().as_struct().fields().to_vec();
        let mut last = table.last_column_id();
        change(&mut fields, &mut last).map_err(|reason| self.refused(verb, reason))?;
        if fields.is_empty() {
            return Err(self.refused(verb, "a table has a column"));
        }
        let identifiers = table.current_schema().identifier_field_ids();
        let schema = Schema::builder()
            .with_fields(fields)
            .with_identifier_field_ids(identifiers)
            .build()
            .map_err(|error| self.refused(verb, error.message()))?;
        let updates = vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }];
        self.publish(found, updates).await
    }
}

/// What a table is made of.
struct Made {
    schema: Schema,
    partitions: UnboundPartitionSpec,
    version: FormatVersion,
    properties: HashMap<String, String>,
}

fn unmade(shown: &str, error: &iceberg::Error) -> TableError {
    TableError::InvalidSpec { reason: format!("no Iceberg table can be made at '{shown}': {}", error.message()) }
}

fn made(shown: &str, spec: &TableSpec) -> Result<Made, TableError> {
    let failed = |error: iceberg::Error| unmade(shown, &error);
    let schema = new_schema(&spec.schema, 0).map_err(|refused| refused.told(failed))?;
    let mut partitions = UnboundPartitionSpec::builder().with_spec_id(0);
    for PartitionField { column, transform } in &spec.partitioned_by {
        let Some(field) = schema.field_by_name(column) else {
            let reason = format!("there is no column '{column}' to partition by");
            return Err(TableError::InvalidSpec { reason });
        };
        // As Spark names them.
        let (name, transform) = match transform {
            rivermere_table::Transform::Identity => (column.clone(), Transform::Identity),
            rivermere_table::Transform::Bucket(count) => (format!("{column}_bucket"), Transform::Bucket(*count)),
            rivermere_table::Transform::Truncate(width) => (format!("{column}_trunc"), Transform::Truncate(*width)),
            rivermere_table::Transform::Year => (format!("{column}_year"), Transform::Year),
            rivermere_table::Transform::Month => (format!("{column}_month"), Transform::Month),
            rivermere_table::Transform::Day => (format!("{column}_day"), Transform::Day),
            rivermere_table::Transform::Hour => (format!("{column}_hour"), Transform::Hour),
        };
        transform.result_type(&field.field_type).map_err(failed)?;
        partitions = partitions.add_partition_field(field.id, name, transform).map_err(failed)?;
    }
    let mut properties: HashMap<String, String> = spec.properties.iter().cloned().collect();
    let version = match properties.remove("format-version").as_deref() {
        None | Some("2") => FormatVersion::V2,
        Some("3") => FormatVersion::V3,
        Some(other) => {
            let reason = format!("tables of format-version {other} are not made, but of 2 and 3");
            return Err(TableError::InvalidSpec { reason });
        }
    };
    Ok(Made { schema, partitions: partitions.build(), version, properties })
}

/// Why columns cannot be those of a table.
pub(crate) enum Refused {
    Table(TableError),
    Library(iceberg::Error),
}

impl Refused {
    pub(crate) fn told(self, failed: impl FnOnce(iceberg::Error) -> TableError) -> TableError {
        match self {
            Self::Table(error) => error,
            Self::Library(error) => failed(error),
        }
    }
}

/// The table's columns for a view's columns, as they are read back.
///
/// # Errors
/// When a type has no equal in Iceberg, or a name is there twice.
pub fn table_schema(view: &ArrowSchema) -> Result<SchemaRef, TableError> {
    let refused = |error: iceberg::Error| TableError::InvalidSpec { reason: error.message().to_owned() };
    Ok(columns(&new_schema(view, 0).map_err(|error| error.told(refused))?))
}

/// Columns with ids behind the last one that there was.
pub(crate) fn new_schema(columns: &ArrowSchema, last_id: i32) -> Result<Schema, Refused> {
    let mut next = last_id;
    let fields: Vec<NestedFieldRef> = columns
        .fields()
        .iter()
        .map(|field| {
            next += 1;
            let own = next;
            new_field(field, own, &mut next)
        })
        .collect::<Result<_, _>>()
        .map_err(Refused::Table)?;
    Schema::builder().with_fields(fields).build().map_err(Refused::Library)
}

fn new_field(field: &arrow::datatypes::Field, id: i32, last: &mut i32) -> Result<NestedFieldRef, TableError> {
    let own = iceberg_type(field.data_type(), last).ok_or_else(|| TableError::UnsupportedType {
        column: field.name().clone(),
        data_type: field.data_type().to_string(),
        format: "Iceberg",
        hint: "cast it to a type that Iceberg has",
    })?;
    Ok(NestedField::new(id, field.name(), own, !field.is_nullable()).into())
}

/// As metadata calls a place.
pub(crate) fn url_of(location: &Location) -> String {
    let shown = location.to_string();
    match shown.contains("://") {
        true => shown,
        false => format!("file:///{}", shown.trim_start_matches('/')),
    }
}

fn operation(summary: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(STATEMENT.to_owned(), summary.to_owned())])
}

#[async_trait]
impl EditableTable for IcebergTable {
    async fn owner(&self) -> Result<Option<String>, TableError> {
        Ok(self.place().newest().await?.metadata.table.properties().get(OWNER).cloned())
    }

    async fn apply(&self, session: &SessionState, base: i64, statement: &str, verb: Verb) -> Result<Done, TableError> {
        let found = self.place().newest().await?;
        let name = verb.name();
        self.writable(&found, name)?;
        let is_blind = matches!(verb, Verb::Append(_));
        let newest = found.metadata.table.current_snapshot().map_or(0, |snapshot| number(snapshot));
        if !is_blind && newest != base {
            return Err(TableError::Conflict { location: self.place().location.to_string(), attempts: 1 });
        }
        let mut done = Done::default();
        match verb {
            Verb::Append(rows) => {
                let edited = edits::append(self, &found, session, name, &rows).await?;
                done.rows = Some(edited.rows);
                if !edited.is_nothing() {
                    let change = Change { summary: operation(statement), ..Change::with(&found, edited) };
                    let change = Change { operation: Operation::Append, ..change };
                    self.commit(&found, change, statement, ATTEMPTS).await?;
                }
            }
            Verb::Overwrite(rows) => {
                let mut edited = edits::append(self, &found, session, name, &rows).await?;
                done.rows = Some(edited.rows);
                self.planned(&found).await?.iter().for_each(|planned| edited.remove(planned));
                if !edited.is_nothing() {
                    let change = Change { summary: operation(statement), ..Change::with(&found, edited) };
                    let change = Change { operation: Operation::Overwrite, ..change };
                    self.commit(&found, change, statement, 1).await?;
                }
            }
            Verb::Delete { condition } => {
                let edited = edits::delete(self, &found, session, condition.as_deref()).await?;
                done = self.edited(&found, edited, Operation::Delete, statement).await?;
            }
            Verb::Update { assignments, condition } => {
                let edited = edits::update(self, &found, session, &assignments, condition.as_deref()).await?;
                done = self.edited(&found, edited, Operation::Overwrite, statement).await?;
            }
            Verb::Merge(merge) => {
                let (edited, [deleted, updated, inserted]) = edits::merge(self, &found, session, &merge).await?;
                done = self.edited(&found, edited, Operation::Overwrite, statement).await?;
                let rows = [("rows_inserted", inserted), ("rows_updated", updated), ("rows_deleted", deleted)];
                done.figures.extend(rows);
            }
            Verb::AddColumns(more) => {
                let added = |fields: &mut Vec<NestedFieldRef>, last: &mut i32| {
                    for field in more.fields() {
                        *last += 1;
                        let own = *last;
                        fields.push(new_field(field, own, last).map_err(|error| error.to_string())?);
                    }
                    Ok(())
                };
                self.altered(&found, name, added).await?;
            }
            Verb::RenameColumn { from, to } => {
                let renamed = |fields: &mut Vec<NestedFieldRef>, _: &mut i32| {
                    if fields.iter().any(|field| field.name.eq_ignore_ascii_case(&to)) {
                        return Err(format!("there is a column '{to}' already"));
                    }
                    replaced(fields, &from, |field| field.name.clone_from(&to))
                };
                self.altered(&found, name, renamed).await?;
            }
            Verb::DropColumn(column) => {
                let table = &found.metadata.table;
                let id = table.current_schema().field_by_name(&column).map(|field| field.id);
                let partitioned =
                    table.default_partition_spec().fields().iter().any(|field| Some(field.source_id) == id);
                if partitioned {
                    return Err(self.refused(name, format!("the table is partitioned by '{column}'")));
                }
                let dropped = |fields: &mut Vec<NestedFieldRef>, _: &mut i32| {
                    fields.retain(|field| field.name != column);
                    Ok(())
                };
                self.altered(&found, name, dropped).await?;
            }
            Verb::WidenColumn { column, to } => {
                let widened = |fields: &mut Vec<NestedFieldRef>, _: &mut i32| {
                    let field = fields.iter().find(|field| field.name == column);
                    let field = field.ok_or_else(|| format!("there is no column '{column}'"))?;
                    let wider = wider(&field.field_type, &to).ok_or_else(|| {
                        let now = arrow_type(&field.field_type, false);
                        format!("{now} is not made {to}: Iceberg widens int to long, float to double, and the digits of decimals")
                    })?;
                    replaced(fields, &column, |field| *field.field_type = Type::Primitive(wider))
                };
                self.altered(&found, name, widened).await?;
            }
            Verb::DropNotNull(column) => {
                let optional = |fields: &mut Vec<NestedFieldRef>, _: &mut i32| {
                    replaced(fields, &column, |field| field.required = false)
                };
                self.altered(&found, name, optional).await?;
            }
            Verb::SetProperties(properties) => {
                let updates = properties.into_iter().collect();
                self.publish(&found, vec![TableUpdate::SetProperties { updates }]).await?;
            }
            Verb::Restore { version } => {
                let id = self.snapshot_id(version).await?;
                let Some(snapshot_id) = id else {
                    return Err(
                        self.refused(name, "a table without a snapshot is not gone back to; DELETE FROM empties it")
                    );
                };
                let reference = SnapshotReference::new(snapshot_id, found.metadata.retention.clone());
                let update = TableUpdate::SetSnapshotRef { ref_name: "main".into(), reference };
                self.publish(&found, vec![update]).await?;
            }
            Verb::Compact { z_order, condition } if z_order.is_empty() => {
                let edited = edits::compact(self, &found, session, condition.as_deref()).await?;
                done = self.edited(&found, edited, Operation::Replace, statement).await?;
                done.rows = None;
            }
            Verb::Clean(_) if found.metadata.table.properties().get(GC).is_some_and(|value| value == "false") => {
                return Err(self.refused(name, "gc.enabled = false: other tables or branches may stand on its files"));
            }
            Verb::Clean(what) => {
                let own = Retention::of(&found);
                let age_ms = what.retention_ms(own.age_ms, MAX_AGE.0).map_err(|reason| self.refused(name, reason))?;
                let retention = Retention { age_ms, ..own };
                let cleaned = clean(self.place(), &found, self.manifests(), &retention, &what).await?;
                done.figures = vec![("files_removed", cleaned.files), ("snapshots_removed", cleaned.snapshots)];
            }
            Verb::Compact { .. } | Verb::AddConstraint { .. } | Verb::DropConstraint { .. } => {
                return Err(self.refused(name, "this is not done to Iceberg tables yet"));
            }
        }
        Ok(Done { version: self.version().await?, ..done })
    }
}

impl IcebergTable {
    async fn edited(
        &self,
        found: &Arc<Found>,
        edited: Edited,
        operation: Operation,
        statement: &str,
    ) -> Result<Done, TableError> {
        let figures = vec![("files_added", edited.added.len() as u64), ("files_removed", edited.removed.len() as u64)];
        let done = Done { rows: Some(edited.rows), figures, version: 0 };
        if edited.is_nothing() {
            return Ok(done);
        }
        let operation = if edited.added.is_empty() {
            operation
        } else if operation == Operation::Delete {
            Operation::Overwrite
        } else {
            operation
        };
        let change = Change { operation, summary: self::operation(statement), ..Change::with(found, edited) };
        self.commit(found, change, statement, 1).await?;
        Ok(done)
    }
}

fn replaced(fields: &mut [NestedFieldRef], name: &str, change: impl FnOnce(&mut NestedField)) -> Result<(), String> {
    let field = fields.iter_mut().find(|field| field.name == name);
    let field = field.ok_or_else(|| format!("there is no column '{name}'"))?;
    let mut own = field.as_ref().clone();
    change(&mut own);
    *field = own.into();
    Ok(())
}

/// "Schema Evolution": the promotions that need no file to be written anew.
fn wider(from: &Type, to: &arrow::datatypes::DataType) -> Option<PrimitiveType> {
    let Type::Primitive(from) = from else { return None };
    let Type::Primitive(to) = iceberg_type(to, &mut 0)? else { return None };
    match (from, &to) {
        (PrimitiveType::Int, PrimitiveType::Long) | (PrimitiveType::Float, PrimitiveType::Double) => Some(to),
        (PrimitiveType::Decimal { precision, scale }, PrimitiveType::Decimal { precision: wider, scale: same })
            if scale == same && wider >= precision =>
        {
            Some(to)
        }
        (from, to) if from == to => Some(to.clone()),
        _ => None,
    }
}
