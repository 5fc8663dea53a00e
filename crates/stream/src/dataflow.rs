//! The graph of operators behind all views, run step by step.

use crate::arrangement::{Arrangement, Snapshot};
use crate::compile::Compiler;
use crate::error::{Result, StreamError};
use crate::operators::{Operator, RejectedRow, StateSink, StepContext};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use rivermere_base::Changes;
use rivermere_sql::{Planner, ViewDefinition};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type NodeId = usize;

pub(crate) enum Kind {
    /// Rows come from outside.
    Input,
    Operator(Box<dyn Operator>),
    Union,
    /// Rows that are there from the start.
    Constant(Changes),
    View(Box<Arrangement>),
}

struct Node {
    /// The view that it works for; the table's name for an input.
    owner: String,
    kind: Kind,
    inputs: Vec<NodeId>,
    schema: SchemaRef,
}

/// What a step did.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// The change of each view that changed, consolidated.
    pub views: Vec<(String, Changes)>,
    pub rejected: Vec<RejectedRow>,
    /// Rows that came late, by view.
    pub late: BTreeMap<String, u64>,
}

/// Operators of all views in one graph, each node after its inputs. One thread runs it; it does no I/O.
///
/// After each [`step`](Self::step) every view equals the batch result of its SQL over the rows put in so far.
#[derive(Default)]
pub struct Dataflow {
    nodes: Vec<Node>,
    relations: BTreeMap<String, NodeId>,
}

impl Dataflow {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a table; rows of this shape are put in by its name.
    pub fn add_table(&mut self, name: &str, schema: SchemaRef) {
        let node = self.add(name, Kind::Input, vec![], schema);
        self.relations.insert(name.to_string(), node);
    }

    /// Gives a table more columns, at the end.
    pub fn widen_table(&mut self, name: &str, schema: SchemaRef) {
        if let Some(node) = self.relations.get(name) {
            self.nodes[*node].schema = schema;
        }
    }

    /// Adds a view over relations that are there already.
    ///
    /// # Errors
    /// When an operator cannot be made.
    pub fn add_view(&mut self, planner: &Planner, view: &ViewDefinition) -> Result<()> {
        let node = Compiler::new(self, planner, &view.name).view(view)?;
        self.relations.insert(view.name.clone(), node);
        Ok(())
    }

    /// Takes a relation out. What reads it must be gone already.
    pub fn remove(&mut self, name: &str) {
        self.relations.remove(name);
        for node in &mut self.nodes {
            if node.owner == name {
                // Nodes keep their numbers; an empty constant costs nothing.
                node.kind = Kind::Constant(Changes::empty(node.schema.clone()));
                node.inputs.clear();
                node.owner = String::new();
            }
        }
    }

    pub(crate) fn add(&mut self, owner: &str, kind: Kind, inputs: Vec<NodeId>, schema: SchemaRef) -> NodeId {
        self.nodes.push(Node { owner: owner.to_string(), kind, inputs, schema });
        self.nodes.len() - 1
    }

    pub(crate) fn relation(&self, name: &str) -> Option<NodeId> {
        self.relations.get(name).copied()
    }

    pub(crate) fn schema(&self, node: NodeId) -> SchemaRef {
        self.nodes[node].schema.clone()
    }

    /// The shape that a table's rows must have, or a view's has.
    pub fn relation_schema(&self, name: &str) -> Option<SchemaRef> {
        self.relation(name).map(|node| self.schema(node))
    }

    /// Runs one step over all views: `inputs` has the change of each table.
    ///
    /// # Errors
    /// When the engine itself fails; a row that an expression fails on is told in the output instead.
    pub fn step(
        &mut self,
        inputs: BTreeMap<String, Vec<Changes>>,
        watermarks: &BTreeMap<String, i64>,
    ) -> Result<StepOutput> {
        self.run(inputs, watermarks, None, false)
    }

    /// The first step of `views`, or a later one of their catching up (`first` false): only their nodes run. Inputs may
    /// also be the whole contents of views that were there before.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn bootstrap(
        &mut self,
        inputs: BTreeMap<String, Vec<Changes>>,
        watermarks: &BTreeMap<String, i64>,
        views: &BTreeSet<String>,
        first: bool,
    ) -> Result<StepOutput> {
        self.run(inputs, watermarks, Some(views), first)
    }

    fn run(
        &mut self,
        mut inputs: BTreeMap<String, Vec<Changes>>,
        watermarks: &BTreeMap<String, i64>,
        only: Option<&BTreeSet<String>>,
        first: bool,
    ) -> Result<StepOutput> {
        let mut output = StepOutput::default();
        let mut produced: Vec<Vec<Changes>> = Vec::with_capacity(self.nodes.len());
        for id in 0..self.nodes.len() {
            let node = &mut self.nodes[id];
            let runs = only.is_none_or(|only| only.contains(&node.owner));
            let given = match &node.kind {
                Kind::Input => inputs.remove(&node.owner),
                Kind::View(_) if !runs => inputs.remove(&node.owner),
                _ => None,
            };
            if let Some(given) = given {
                produced.push(given);
                continue;
            }
            if !runs {
                produced.push(vec![]);
                continue;
            }
            let from: Vec<Vec<Changes>> = node.inputs.iter().map(|input| produced[*input].clone()).collect();
            let quiet = from.iter().all(Vec::is_empty);
            let changes = match &mut node.kind {
                Kind::Input => vec![],
                Kind::Constant(rows) => {
                    if first && rows.num_rows() > 0 {
                        vec![rows.clone()]
                    } else {
                        vec![]
                    }
                }
                Kind::Union => relabel(from.into_iter().flatten(), &node.schema)?,
                Kind::Operator(operator) => {
                    if quiet && !operator.wants_empty_step() {
                        vec![]
                    } else {
                        let mut late = 0;
                        let mut context = StepContext {
                            watermarks,
                            rejected: &mut output.rejected,
                            view: &node.owner,
                            late: &mut late,
                        };
                        let changes = operator.step(from, &mut context).map_err(|error| in_view(error, &node.owner))?;
                        if late > 0 {
                            *output.late.entry(node.owner.clone()).or_default() += late;
                        }
                        changes
                    }
                }
                Kind::View(_) if quiet => vec![],
                Kind::View(arrangement) => {
                    let from = relabel(from.into_iter().flatten(), &node.schema)?;
                    let changes = arrangement.apply(from).map_err(|error| in_view(error, &node.owner))?;
                    if changes.is_empty() {
                        vec![]
                    } else {
                        output.views.push((node.owner.clone(), changes.clone()));
                        vec![changes]
                    }
                }
            };
            produced.push(changes);
        }
        Ok(output)
    }

    /// A view's rows after the last step.
    pub fn snapshot(&self, view: &str) -> Option<Snapshot> {
        match &self.nodes[self.relation(view)?].kind {
            Kind::View(arrangement) => Some(arrangement.snapshot()),
            _ => None,
        }
    }

    /// Entries and bytes of a view's state, without its own rows; then bytes of its rows.
    pub fn state_size(&self, view: &str) -> (usize, usize, usize) {
        let mut size = (0, 0, 0);
        for node in self.nodes.iter().filter(|node| node.owner == view) {
            match &node.kind {
                Kind::Operator(operator) => {
                    size.0 += operator.entries();
                    size.1 += operator.memory();
                }
                Kind::View(arrangement) => size.2 += arrangement.memory(),
                _ => {}
            }
        }
        size
    }

    /// Names of all stateful nodes, in order: the view, and the node's number within it.
    fn state_ids(&self) -> Vec<Option<String>> {
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        self.nodes
            .iter()
            .map(|node| match &node.kind {
                Kind::Operator(_) | Kind::View(_) => {
                    let number = numbers.entry(&node.owner).or_default();
                    *number += 1;
                    Some(format!("{}/{}", node.owner, *number - 1))
                }
                _ => None,
            })
            .collect()
    }

    /// Tells every state entry that changed since the last call, node by node.
    ///
    /// # Errors
    /// When the sink fails.
    pub(crate) fn checkpoint(&mut self, mut sink: impl FnMut(&str, &[u8], Option<&[u8]>)) -> Result<()> {
        let ids = self.state_ids();
        for (node, id) in self.nodes.iter_mut().zip(ids) {
            let Some(id) = id else { continue };
            let tell: &mut StateSink = &mut |key, value| sink(&id, key, value);
            match &mut node.kind {
                Kind::Operator(operator) => operator.checkpoint(tell)?,
                Kind::View(arrangement) => arrangement.checkpoint(tell)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts one state entry back; [`restored`](Self::restored) ends it.
    ///
    /// # Errors
    /// When the entry is damaged.
    pub(crate) fn restorer(&mut self) -> impl FnMut(&str, &[u8], Option<&[u8]>) -> Result<()> {
        let ids: BTreeMap<String, NodeId> =
            self.state_ids().into_iter().enumerate().filter_map(|(node, id)| Some((id?, node))).collect();
        move |id, key, value| {
            let Some(node) = ids.get(id) else { return Ok(()) };
            match &mut self.nodes[*node].kind {
                Kind::Operator(operator) => operator.restore(key, value),
                Kind::View(arrangement) => arrangement.restore(key, value),
                _ => Ok(()),
            }
        }
    }

    /// All state entries that changed since the last call, as `(node, key, value)`; no value means removed.
    ///
    /// # Errors
    /// When a row cannot be encoded.
    pub fn checkpoint_entries(&mut self, sink: impl FnMut(&str, &[u8], Option<&[u8]>)) -> Result<()> {
        self.checkpoint(sink)
    }

    /// Puts entries back into a dataflow of the same views, in the order they were told.
    ///
    /// # Errors
    /// When an entry is damaged.
    pub fn restore_entries<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (&'a str, &'a [u8], Option<&'a [u8]>)>,
    ) -> Result<()> {
        let mut newest: BTreeMap<(&str, &[u8]), Option<&[u8]>> = BTreeMap::new();
        for (node, key, value) in entries {
            newest.insert((node, key), value);
        }
        let mut restore = self.restorer();
        for ((node, key), value) in newest {
            restore(node, key, value)?;
        }
        drop(restore);
        self.restored()
    }

    /// Ends a restore.
    ///
    /// # Errors
    /// When an entry is damaged.
    pub(crate) fn restored(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            match &mut node.kind {
                Kind::View(arrangement) => arrangement.restored()?,
                Kind::Operator(operator) => operator.restored()?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn in_view(error: StreamError, view: &str) -> StreamError {
    match error {
        StreamError::Operator { view: none, message } if none.is_empty() => {
            StreamError::Operator { view: view.to_string(), message }
        }
        other => other,
    }
}

/// The same columns under the names of `schema`.
fn relabel(changes: impl Iterator<Item = Changes>, schema: &SchemaRef) -> Result<Vec<Changes>> {
    changes
        .map(|changes| {
            let (batch, weights) = changes.into_parts();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options)?;
            Ok(Changes::new(batch, weights)?)
        })
        .collect()
}
