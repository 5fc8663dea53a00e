//! Statements as instants, or as properties alone.

use crate::clean;
use crate::edits::{self, groups, small};
use crate::place::{Found, Place};
use crate::produce::{self, Begun, Change, Outcome};
use crate::properties::Properties;
use crate::reading::Reading;
use crate::schema::schema_text;
use crate::table::{HudiTable, ID};
use crate::timeline::{Action, Instant};
use crate::types::{avro_schema, is_wider};
use crate::writing::{Files, can_partition};
use arrow::datatypes::{Field, FieldRef, Schema};
use async_trait::async_trait;
use datafusion::execution::SessionState;
use futures::TryStreamExt as _;
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions};
use rivermere_table::{Done, EditableTable, Editing, Location, Table as _, TableError, TableSpec, Transform, Verb};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where an instant names its statement.
const STATEMENT: &str = "rivermere.statement";
/// The property that names the sink that writes the table.
pub(crate) const OWNER: &str = "rivermere.sink";
const COPY_ON_WRITE: &str = "COPY_ON_WRITE";
const MERGE_ON_READ: &str = "MERGE_ON_READ";
/// What a table is made with.
const MADE_WITH: [(&str, &str); 14] = [
    ("hoodie.table.version", "8"),
    ("hoodie.table.initial.version", "8"),
    ("hoodie.timeline.layout.version", "2"),
    ("hoodie.timeline.path", "timeline"),
    ("hoodie.timeline.history.path", "history"),
    ("hoodie.archivelog.folder", "archived"),
    ("hoodie.table.base.file.format", "PARQUET"),
    ("hoodie.table.timeline.timezone", "UTC"),
    ("hoodie.populate.meta.fields", "true"),
    ("hoodie.datasource.write.drop.partition.columns", "false"),
    ("hoodie.datasource.write.hive_style_partitioning", "true"),
    ("hoodie.datasource.write.partitionpath.urlencode", "true"),
    ("hoodie.record.merge.mode", "COMMIT_TIME_ORDERING"),
    // That of the merge mode, by the id that Hudi has for it.
    ("hoodie.record.merge.strategy.id", "ce9acb64-bde0-424c-9b91-f6ebba25356d"),
];

impl HudiTable {
    /// Makes a table without rows, of table version 8. The property `primaryKey` names the columns of its record key, as in Spark;
    /// those that begin with `hoodie.` are kept.
    ///
    /// # Errors
    /// When there is one, or its columns cannot be those of a Hudi table.
    pub async fn create(location: Location, spec: &TableSpec) -> Result<Self, TableError> {
        let place = Place::new(location.clone());
        let invalid = |reason: String| TableError::InvalidSpec { reason };
        let name = location.path().filename().unwrap_or("table").to_owned();
        let mut properties = Properties::default();
        MADE_WITH.iter().for_each(|(name, value)| properties.set(*name, *value));
        let mut partitions = vec![];
        for field in &spec.partitioned_by {
            let column = spec.schema.field_with_name(&field.column);
            let column =
                column.map_err(|_| invalid(format!("there is no column '{}' to partition by", field.column)))?;
            if field.transform != Transform::Identity {
                return Err(invalid(
                    "Hudi tables are partitioned by columns, and not by what functions make of them".into(),
                ));
            }
            let stored = crate::types::table_schema(&Schema::new(vec![column.clone()]))?;
            if !can_partition(stored.field(0).data_type()) {
                let reason = "are not partitioned by here: take a text, a whole number, a date or a boolean";
                return Err(invalid(format!(
                    "columns of type {}, as '{}' is, {reason}",
                    column.data_type(),
                    field.column
                )));
            }
            partitions.push(field.column.clone());
        }
        properties.set("hoodie.table.name", &name);
        properties.set(ID, location.new_id().to_string());
        properties.set("hoodie.table.type", COPY_ON_WRITE);
        properties.set("hoodie.table.partition.fields", partitions.join(","));
        for (name, value) in &spec.properties {
            // As Spark's SQL calls them.
            let name = match name.to_ascii_lowercase().as_str() {
                "primarykey" => "hoodie.table.recordkey.fields",
                "type" => "hoodie.table.type",
                _ => name,
            };
            match name {
                "hoodie.table.type" => match value.to_ascii_uppercase().as_str() {
                    "COW" | COPY_ON_WRITE => {}
                    "MOR" | MERGE_ON_READ => properties.set(name, MERGE_ON_READ),
                    _ => return Err(invalid(format!("there are no tables of the type {value}, but cow and mor"))),
                },
                name => match MADE_WITH.iter().find(|(own, _)| *own == name) {
                    Some((_, made)) if made != value => {
                        return Err(invalid(format!("tables are made with {name} = '{made}' here, not '{value}'")));
                    }
                    _ => properties.set(name, value),
                },
            }
        }
        let key = properties.names("hoodie.table.recordkey.fields");
        if let Some(missing) = key.iter().find(|column| spec.schema.field_with_name(column).is_err()) {
            return Err(invalid(format!("there is no column '{missing}' for the record key")));
        }
        let generator = match (partitions.len(), key.len()) {
            (0, _) => "NON_PARTITION",
            (1, 0 | 1) => "SIMPLE",
            _ => "COMPLEX",
        };
        properties.set("hoodie.table.keygenerator.type", generator);
        properties.set("hoodie.table.create.schema", avro_schema(&name, &spec.schema)?);
        // Java's CRC32 of the database and the name.
        let mut sum = flate2::Crc::new();
        sum.update(format!(".{name}").as_bytes());
        properties.set("hoodie.table.checksum", sum.sum().to_string());
        crate::types::table_schema(&spec.schema)?;
        let exists = || TableError::Verb {
            location: location.to_string(),
            verb: "CREATE EXTERNAL TABLE",
            reason: "there is a table already".into(),
        };
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let file = place.meta().join("hoodie.properties");
        let text = properties.text().into_bytes();
        match place.location.store().put_opts(&file, text.clone().into(), options).await {
            Ok(_) => {}
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                let there = async { place.location.store().get(&file).await?.bytes().await };
                // It may be ours, of an attempt whose answer was lost.
                if there.await.map_err(|error| place.failed("making a table", error))? != text {
                    return Err(exists());
                }
            }
            Err(error) => return Err(place.failed("making a table", error)),
        }
        Self::open(location).await
    }

    /// Whether a completed instant is that of a statement.
    async fn has(&self, found: &Found, statement: &str) -> Result<bool, TableError> {
        for instant in found.timeline.instants.iter().rev().take(100) {
            if self.place().commit(instant).await?.extra.get(STATEMENT).is_some_and(|text| text == statement) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Completes what was begun; what does not come to that is undone.
    pub(crate) async fn complete(
        &self,
        found: &Found,
        begun: &Begun,
        change: &Change,
        is_blind: bool,
    ) -> Result<Found, TableError> {
        let base = if is_blind { None } else { Some(found) };
        match produce::commit(self.place(), base, begun, change).await {
            Ok(Outcome::Committed(newest)) => Ok(newest),
            Ok(Outcome::Lost) => {
                produce::undo(self.place(), found, begun).await?;
                Err(TableError::Conflict { location: self.place().location.to_string(), attempts: 1 })
            }
            // The answer may have been lost, and not the commit: only the table knows.
            Err(error) => {
                let newest = produce::settled(self.place()).await;
                match newest {
                    Ok(newest) if newest.timeline.instants.iter().any(|instant| instant.time == begun.time) => {
                        Ok(newest)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Says that the table has other columns now.
    async fn altered(
        &self,
        found: &Found,
        verb: &'static str,
        statement: &str,
        change: impl FnOnce(&mut Vec<FieldRef>) -> Result<(), String>,
    ) -> Result<(), TableError> {
        let schema = crate::schema::schema(self.place(), found, &found.timeline.instants).await?;
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        change(&mut fields).map_err(|reason| self.refused(verb, reason))?;
        let name = found.properties.get("hoodie.table.name").unwrap_or("table");
        let mut change = Change::of("ALTER_SCHEMA", avro_schema(name, &Schema::new(fields))?);
        change.extra.insert(STATEMENT.to_owned(), statement.to_owned());
        let begun = produce::begin(self.place(), found, found.action(), "").await?;
        self.complete(found, &begun, &change, false).await.map(|_| ())
    }

    /// What a statement does to rows, as one instant.
    async fn changed(
        &self,
        session: &SessionState,
        found: &Found,
        statement: &str,
        verb: Verb,
    ) -> Result<Done, TableError> {
        let name = verb.name();
        let replaces = matches!(verb, Verb::Overwrite(_) | Verb::Compact { .. } | Verb::Restore { .. });
        let action = if replaces { Action::ReplaceCommit } else { found.action() };
        let is_blind = matches!(verb, Verb::Append(_));
        let begun = produce::begin(self.place(), found, action, "").await?;
        let mut change = Change::of("UPSERT", schema_text(self.place(), found, &found.timeline.instants).await?);
        change.extra.insert(STATEMENT.to_owned(), statement.to_owned());
        let work = async {
            let mut done = Done::default();
            let (editing, mut target) = edits::statement(name, self, session, found, &begun).await?;
            done.rows = match &verb {
                Verb::Append(rows) => {
                    change.operation = "INSERT";
                    editing.append(&mut target, rows).await?;
                    Some(target.files.rows)
                }
                Verb::Overwrite(rows) => {
                    change.operation = "INSERT_OVERWRITE_TABLE";
                    editing.append(&mut target, rows).await?;
                    change.replaced = groups(&editing.pieces);
                    Some(target.files.rows)
                }
                Verb::Delete { condition } => {
                    change.operation = "DELETE";
                    Some(editing.delete(&mut target, condition.as_deref()).await?)
                }
                Verb::Update { assignments, condition } => {
                    Some(editing.update(&mut target, assignments, condition.as_deref()).await?)
                }
                Verb::Merge(merge) => {
                    let [deleted, updated, inserted] = editing.merge(&mut target, merge).await?;
                    let rows = [("rows_inserted", inserted), ("rows_updated", updated), ("rows_deleted", deleted)];
                    done.figures.extend(rows);
                    Some(deleted + updated + inserted)
                }
                Verb::Compact { .. } => {
                    change.operation = "CLUSTER";
                    let crumbs = small(&editing.pieces, usize::MAX, 0);
                    target.gather(&crumbs).await?;
                    change.replaced = groups(&crumbs);
                    done.figures.push(("files_removed", crumbs.len() as u64));
                    None
                }
                Verb::Restore { version } => {
                    change.operation = "INSERT_OVERWRITE_TABLE";
                    change.replaced = self.restored(&editing, &mut target.files, found, *version).await?;
                    None
                }
                _ => return Err(self.refused(name, "Hudi tables do not have it here")),
            };
            change.added = target.files.finish().await?;
            if matches!(verb, Verb::Compact { .. }) {
                done.figures.push(("files_added", change.added.len() as u64));
            }
            Ok(done)
        };
        let done = work.await;
        match done {
            Ok(done) if change.is_nothing() => {
                produce::undo(self.place(), found, &begun).await?;
                Ok(done)
            }
            Ok(done) => {
                self.complete(found, &begun, &change, is_blind).await?;
                Ok(done)
            }
            Err(error) => {
                // Whoever comes later does it, when this fails, too.
                let _ = produce::undo(self.place(), found, &begun).await;
                Err(error)
            }
        }
    }

    /// The rows of an older version in new file groups, for those that have other ones now, which are told.
    async fn restored(
        &self,
        editing: &Editing<'_, Reading>,
        files: &mut Files<'_>,
        found: &Found,
        version: i64,
    ) -> Result<BTreeMap<String, Vec<String>>, TableError> {
        let instants = self.whole(found, version).await?;
        let (schema, slices) = self.plan(found, instants).await?;
        let reading = Reading::new(self.place(), found, instants, schema);
        let (went, came) = crate::table::differing(found, editing.pieces.clone(), slices);
        for slice in &came {
            let mut rows = reading.filtered(slice, &editing.schema, None).await?;
            while let Some(batch) = rows.try_next().await? {
                files.write(&batch).await?;
            }
        }
        Ok(groups(&went))
    }
}

#[async_trait]
impl EditableTable for HudiTable {
    async fn owner(&self) -> Result<Option<String>, TableError> {
        Ok(self.place().newest().await?.properties.get(OWNER).map(str::to_owned))
    }

    async fn apply(&self, session: &SessionState, base: i64, statement: &str, verb: Verb) -> Result<Done, TableError> {
        let found = produce::settled(self.place()).await?;
        let name = verb.name();
        if let Some(feature) = found.unwritable() {
            let hint = "write it with the engine that made it";
            return Err(TableError::UnsupportedFeature { location: self.place().location.to_string(), feature, hint });
        }
        let newest = found.timeline.newest().map_or(0, Instant::version);
        if !matches!(verb, Verb::Append(_)) && newest != base {
            if self.has(&found, statement).await? {
                return Ok(Done { version: newest, ..Done::default() });
            }
            return Err(TableError::Conflict { location: self.place().location.to_string(), attempts: 1 });
        }
        produce::undo_left(self.place(), "").await?;
        let mut done = match verb {
            Verb::AddColumns(more) => {
                let added = |fields: &mut Vec<FieldRef>| {
                    for field in more.fields() {
                        if fields.iter().any(|own| own.name().eq_ignore_ascii_case(field.name())) {
                            return Err(format!("there is a column '{}' already", field.name()));
                        }
                        fields.push(Arc::new(field.as_ref().clone().with_nullable(true)));
                    }
                    Ok(())
                };
                self.altered(&found, name, statement, added).await?;
                Done::default()
            }
            Verb::WidenColumn { column, to } => {
                let stored = crate::types::table_schema(&Schema::new(vec![Field::new("c", to.clone(), true)]))?;
                let to = stored.field(0).data_type().clone();
                let widened = |fields: &mut Vec<FieldRef>| {
                    let own = fields.iter_mut().find(|field| *field.name() == column);
                    let own = own.ok_or_else(|| format!("there is no column '{column}'"))?;
                    if !is_wider(own.data_type(), &to) {
                        return Err(format!("'{column}' is {}, which does not become {to}", own.data_type()));
                    }
                    *own = Arc::new(own.as_ref().clone().with_data_type(to.clone()));
                    Ok(())
                };
                self.altered(&found, name, statement, widened).await?;
                Done::default()
            }
            Verb::SetProperties(properties) => {
                let mut all = found.properties.clone();
                for (name, value) in properties {
                    if MADE_WITH.iter().any(|(own, _)| *own == name) || name.starts_with("hoodie.table.") {
                        return Err(
                            self.refused("SET TBLPROPERTIES", format!("{name} is not changed once there is a table"))
                        );
                    }
                    all.set(name, value);
                }
                self.place().put_properties(&all).await?;
                Done::default()
            }
            Verb::Compact { z_order, condition } if !z_order.is_empty() || condition.is_some() => {
                return Err(self.refused(name, "ZORDER and conditions are not there yet for Hudi tables"));
            }
            Verb::RenameColumn { .. } | Verb::DropColumn(_) | Verb::DropNotNull(_) => {
                return Err(
                    self.refused(name, "files of Hudi tables know their columns by their names: add another column")
                );
            }
            Verb::AddConstraint { .. } | Verb::DropConstraint { .. } => {
                return Err(self.refused(name, "Hudi tables have no constraints"));
            }
            Verb::Clean(what) => {
                let own_ms = clean::own_retention_ms(&found);
                let age_ms = what.retention_ms(own_ms, clean::RETAINED).map_err(|reason| self.refused(name, reason))?;
                let files = clean::clean(self.place(), &found, age_ms, &what).await?;
                Done { figures: vec![("files_removed", files)], ..Done::default() }
            }
            verb => self.changed(session, &found, statement, verb).await?,
        };
        done.version = self.version().await?;
        Ok(done)
    }
}
