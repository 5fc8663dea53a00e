//! Statements about tables of the lake: made, changed and looked after.

use super::script::Parsed;
use super::statements::{Failure, Reader, normalise};
use super::versions;
use crate::catalog::{ExternalTable, LakeFormat, LakePlace};
use crate::error::SqlError;
use crate::plan::column_schema;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, ColumnDef, DataType, Expr, FromTable, Ident, ObjectName, Query, Spanned,
    Statement as Ast, TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::IsOptional;
use datafusion::sql::sqlparser::tokenizer::{Span, Token};
use std::ops::ControlFlow;
use std::sync::Arc;

/// A statement about one table of the lake.
#[derive(Clone, Debug)]
pub struct LakeStatement {
    pub target: Target,
    pub verb: LakeVerb,
}

/// What a statement is about: a relation by its name, or a table of the lake by its place.
#[derive(Clone, Debug)]
pub enum Target {
    Name(Ident),
    Place { place: LakePlace, span: Span },
}

/// What is done to a table.
#[derive(Clone, Debug)]
pub enum LakeVerb {
    /// `DELETE FROM t [WHERE …]`; without a condition, all rows.
    Delete { condition: Option<Expr> },
    /// `UPDATE t SET c = e, … [WHERE …]`
    Update { assignments: Vec<(Ident, Expr)>, condition: Option<Expr> },
    /// `MERGE INTO t USING s ON … WHEN …`
    Merge(Box<Merge>),
    /// `ALTER TABLE t …`
    Alter(Alteration),
    /// `OPTIMIZE t [ZORDER BY (c, …)]`
    Optimize { z_order: Vec<Ident>, condition: Option<Expr> },
    /// `VACUUM t [LITE | FULL] [RETAIN n HOURS] [DRY RUN]`
    Vacuum { full: bool, retain_hours: Option<u64>, dry_run: bool },
    /// `DESCRIBE HISTORY t [LIMIT n]`
    History { limit: Option<usize> },
    /// `RESTORE [TABLE] t TO VERSION | TIMESTAMP AS OF …`
    Restore { to: AsOf },
}

/// Which state of a table is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// A branch or a tag.
    Named(String),
    Version(i64),
    /// A timestamp as it was written: the newest version that was committed until then.
    Timestamp(String),
}

/// `CREATE EXTERNAL TABLE name [(columns)] STORED AS format [PARTITIONED BY (…)] LOCATION '…' [TBLPROPERTIES (…)]`.
#[derive(Clone, Debug)]
pub struct CreateExternal {
    pub name: Ident,
    pub if_not_exists: bool,
    /// Empty for a table that is there.
    pub columns: Vec<ColumnDef>,
    pub partitioned_by: Vec<PartitionBy>,
    pub place: LakePlace,
    /// Properties of a table that is made.
    pub properties: Vec<(String, String, Span)>,
}

/// A column that a table is partitioned by, or what a function makes of one: `days(at)`, `bucket(16, id)`.
#[derive(Clone, Debug)]
pub struct PartitionBy {
    pub column: Ident,
    /// The function, and its number where it has one.
    pub transform: Option<(Ident, Option<u32>)>,
}

/// The clauses of a MERGE in the order they are tried.
#[derive(Clone, Debug)]
pub struct Merge {
    pub target_alias: Option<Ident>,
    pub source: TableFactor,
    pub on: Expr,
    pub clauses: Vec<MergeClause>,
}

#[derive(Clone, Debug)]
pub struct MergeClause {
    pub when: MergeWhen,
    /// `AND …`
    pub condition: Option<Expr>,
    pub action: MergeDo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeWhen {
    Matched,
    NotMatched,
    /// Rows of the table that no row of the source matches.
    NotMatchedBySource,
}

#[derive(Clone, Debug)]
pub enum MergeDo {
    Delete,
    /// Empty: `UPDATE SET *`, every column from the source's of its name.
    Update(Vec<(Ident, Expr)>),
    /// Empty: `INSERT *`.
    Insert(Vec<(Ident, Expr)>),
}

/// One change of a table's metadata.
#[derive(Clone, Debug)]
pub enum Alteration {
    AddColumns(Vec<ColumnDef>),
    RenameColumn {
        from: Ident,
        to: Ident,
    },
    DropColumn(Ident),
    /// `ALTER COLUMN c TYPE t`
    WidenColumn {
        column: Ident,
        to: DataType,
    },
    /// `ALTER COLUMN c DROP NOT NULL`
    DropNotNull(Ident),
    AddConstraint {
        name: Ident,
        check: Expr,
    },
    DropConstraint {
        name: Ident,
        if_exists: bool,
    },
    SetProperties(Vec<(String, String, Span)>),
}

impl Reader<'_> {
    pub(super) fn delete(&mut self) -> Result<LakeStatement, Failure> {
        let token = self.parser.next_token();
        let Ast::Delete(delete) = self.parser.parse_delete(token)? else {
            return Err(self.unexpected("DELETE FROM").into());
        };
        let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = &delete.from;
        let [table] = tables.as_slice() else { return Err(self.plain("DELETE is from one table").into()) };
        let (target, alias) = self.target_of(table)?;
        if delete.using.is_some() || delete.returning.is_some() || delete.limit.is_some() {
            return Err(self
                .plain("DELETE FROM table [AS name] [WHERE condition] is all there is")
                .hint("with another relation beside it: MERGE INTO … WHEN MATCHED THEN DELETE")
                .into());
        }
        let mut condition = delete.selection;
        unqualify(&mut condition, &target, alias);
        Ok(LakeStatement { target, verb: LakeVerb::Delete { condition } })
    }

    pub(super) fn update(&mut self) -> Result<LakeStatement, Failure> {
        let token = self.parser.next_token();
        let Ast::Update(update) = self.parser.parse_update(token)? else {
            return Err(self.unexpected("UPDATE").into());
        };
        let (target, alias) = self.target_of(&update.table)?;
        if update.from.is_some() || update.returning.is_some() || update.limit.is_some() {
            return Err(self
                .plain("UPDATE table [AS name] SET column = value, … [WHERE condition] is all there is")
                .hint("with another relation beside it: MERGE INTO … WHEN MATCHED THEN UPDATE")
                .into());
        }
        let mut assignments = self.assignments(update.assignments)?;
        let mut condition = update.selection;
        unqualify(&mut condition, &target, alias.clone());
        for (_, value) in &mut assignments {
            unqualify(value, &target, alias.clone());
        }
        Ok(LakeStatement { target, verb: LakeVerb::Update { assignments, condition } })
    }

    /// After `MERGE`. Read here and not by sqlparser, which knows neither `UPDATE SET *` nor `INSERT *`.
    pub(super) fn merge(&mut self) -> Result<LakeStatement, Failure> {
        let _ = self.parser.parse_keyword(Keyword::INTO);
        let factor = self.parser.parse_table_factor()?;
        let (target, target_alias) = self.target_of_factor(&factor)?;
        self.parser.expect_keyword(Keyword::USING)?;
        let source = self.parser.parse_table_factor()?;
        self.parser.expect_keyword(Keyword::ON)?;
        let on = self.parser.parse_expr()?;
        let mut clauses = vec![];
        while self.parser.parse_keyword(Keyword::WHEN) {
            clauses.push(self.merge_clause()?);
        }
        if clauses.is_empty() {
            return Err(self.unexpected("WHEN [NOT] MATCHED").into());
        }
        Ok(LakeStatement { target, verb: LakeVerb::Merge(Box::new(Merge { target_alias, source, on, clauses })) })
    }

    fn merge_clause(&mut self) -> Result<MergeClause, Failure> {
        let not = self.parser.parse_keyword(Keyword::NOT);
        self.parser.expect_keyword(Keyword::MATCHED)?;
        let by_source = not && self.parser.parse_keywords(&[Keyword::BY, Keyword::SOURCE]);
        let _ = not && !by_source && self.parser.parse_keywords(&[Keyword::BY, Keyword::TARGET]);
        let when = match (not, by_source) {
            (false, _) => MergeWhen::Matched,
            (true, false) => MergeWhen::NotMatched,
            (true, true) => MergeWhen::NotMatchedBySource,
        };
        let condition = if self.parser.parse_keyword(Keyword::AND) { Some(self.parser.parse_expr()?) } else { None };
        self.parser.expect_keyword(Keyword::THEN)?;
        let action = if when == MergeWhen::NotMatched {
            if !self.word("INSERT") {
                return Err(self.unexpected("INSERT, which is what a row of the source without a match can do").into());
            }
            MergeDo::Insert(self.merge_insert()?)
        } else if self.word("DELETE") {
            MergeDo::Delete
        } else if self.word("UPDATE") {
            self.parser.expect_keyword(Keyword::SET)?;
            let all = self.parser.consume_token(&Token::Mul);
            if all && when == MergeWhen::NotMatchedBySource {
                return Err(self.plain("SET * takes the columns of the source, and here is no row of it").into());
            }
            MergeDo::Update(match all {
                true => vec![],
                false => {
                    let assignments = self.parser.parse_comma_separated(|parser| parser.parse_assignment())?;
                    self.assignments(assignments)?
                }
            })
        } else {
            return Err(self.unexpected("UPDATE SET or DELETE").into());
        };
        Ok(MergeClause { when, condition, action })
    }

    fn merge_insert(&mut self) -> Result<Vec<(Ident, Expr)>, Failure> {
        if self.parser.consume_token(&Token::Mul) {
            return Ok(vec![]);
        }
        let columns = self.parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?;
        self.parser.expect_keyword(Keyword::VALUES)?;
        self.parser.expect_token(&Token::LParen)?;
        let values = self.parser.parse_comma_separated(|parser| parser.parse_expr())?;
        self.parser.expect_token(&Token::RParen)?;
        if columns.len() != values.len() {
            let message = format!("INSERT has {} columns and {} values", columns.len(), values.len());
            return Err(self.plain(&message).into());
        }
        Ok(columns.iter().map(normalise).zip(values).collect())
    }

    /// After `ALTER TABLE`.
    pub(super) fn alter(&mut self) -> Result<LakeStatement, Failure> {
        let target = self.target()?;
        let alteration = if self.word("ADD") {
            if self.word("CONSTRAINT") {
                let name = self.parser.parse_identifier()?;
                self.parser.expect_keyword(Keyword::CHECK)?;
                self.parser.expect_token(&Token::LParen)?;
                let check = self.parser.parse_expr()?;
                self.parser.expect_token(&Token::RParen)?;
                Alteration::AddConstraint { name: normalise(&name), check }
            } else {
                let _ = self.word("COLUMNS") || self.word("COLUMN");
                let columns = if self.parser.consume_token(&Token::LParen) {
                    let columns = self.parser.parse_comma_separated(|parser| parser.parse_column_def())?;
                    self.parser.expect_token(&Token::RParen)?;
                    columns
                } else {
                    self.parser.parse_comma_separated(|parser| parser.parse_column_def())?
                };
                Alteration::AddColumns(columns)
            }
        } else if self.word("RENAME") {
            let _ = self.word("COLUMN");
            let from = self.parser.parse_identifier()?;
            self.parser.expect_keyword(Keyword::TO)?;
            let to = self.parser.parse_identifier()?;
            Alteration::RenameColumn { from: normalise(&from), to: normalise(&to) }
        } else if self.word("DROP") {
            if self.word("CONSTRAINT") {
                let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
                let name = self.parser.parse_identifier()?;
                Alteration::DropConstraint { name: normalise(&name), if_exists }
            } else {
                let _ = self.word("COLUMN");
                Alteration::DropColumn(normalise(&self.parser.parse_identifier()?))
            }
        } else if self.word("ALTER") {
            let _ = self.word("COLUMN");
            let column = normalise(&self.parser.parse_identifier()?);
            if self.word("DROP") {
                self.parser.expect_keywords(&[Keyword::NOT, Keyword::NULL])?;
                Alteration::DropNotNull(column)
            } else {
                let _ = self.parser.parse_keywords(&[Keyword::SET, Keyword::DATA]);
                if !self.word("TYPE") {
                    return Err(self.unexpected("TYPE or DROP NOT NULL").into());
                }
                Alteration::WidenColumn { column, to: self.parser.parse_data_type()? }
            }
        } else if self.word("SET") {
            if !self.word("TBLPROPERTIES") {
                return Err(self.unexpected("TBLPROPERTIES").into());
            }
            Alteration::SetProperties(self.options()?)
        } else {
            return Err(self.unexpected("ADD, ALTER, DROP, RENAME or SET").into());
        };
        Ok(LakeStatement { target, verb: LakeVerb::Alter(alteration) })
    }

    /// After `OPTIMIZE`.
    pub(super) fn optimize(&mut self) -> Result<LakeStatement, Failure> {
        let _ = self.word("TABLE");
        let target = self.target()?;
        let condition = match self.parser.parse_keyword(Keyword::WHERE) {
            true => Some(self.parser.parse_expr()?),
            false => None,
        };
        let z_order = if self.word("ZORDER") {
            self.parser.expect_keyword(Keyword::BY)?;
            if self.parser.peek_token_ref().token == Token::LParen {
                self.parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?
            } else {
                self.parser.parse_comma_separated(|parser| parser.parse_identifier())?
            }
        } else {
            vec![]
        };
        let z_order = z_order.iter().map(normalise).collect();
        Ok(LakeStatement { target, verb: LakeVerb::Optimize { z_order, condition } })
    }

    /// After `VACUUM`.
    pub(super) fn vacuum(&mut self) -> Result<LakeStatement, Failure> {
        let _ = self.word("TABLE");
        let target = self.target()?;
        let full = self.word("FULL");
        if !full {
            let _ = self.word("LITE");
        }
        let retain_hours = if self.word("RETAIN") {
            let hours = self.parser.parse_literal_uint()?;
            if !self.word("HOURS") && !self.word("HOUR") {
                return Err(self.unexpected("HOURS").into());
            }
            Some(hours)
        } else {
            None
        };
        let dry_run = self.word("DRY");
        if dry_run && !self.word("RUN") {
            return Err(self.unexpected("RUN after DRY").into());
        }
        Ok(LakeStatement { target, verb: LakeVerb::Vacuum { full, retain_hours, dry_run } })
    }

    /// After `DESCRIBE HISTORY`.
    pub(super) fn history(&mut self) -> Result<LakeStatement, Failure> {
        let target = self.target()?;
        let limit = match self.parser.parse_keyword(Keyword::LIMIT) {
            true => Some(usize::try_from(self.parser.parse_literal_uint()?).unwrap_or(usize::MAX)),
            false => None,
        };
        Ok(LakeStatement { target, verb: LakeVerb::History { limit } })
    }

    /// After `RESTORE`.
    pub(super) fn restore(&mut self) -> Result<LakeStatement, Failure> {
        let _ = self.word("TABLE");
        let target = self.target()?;
        self.parser.expect_keyword(Keyword::TO)?;
        let to = match self.as_of()? {
            Some(to) => to,
            None => return Err(self.unexpected("VERSION AS OF or TIMESTAMP AS OF").into()),
        };
        Ok(LakeStatement { target, verb: LakeVerb::Restore { to } })
    }

    fn as_of(&mut self) -> Result<Option<AsOf>, Failure> {
        let version = self.peek_is("VERSION");
        if !version && !self.peek_is("TIMESTAMP") {
            return Ok(None);
        }
        self.parser.next_token();
        self.parser.expect_keywords(&[Keyword::AS, Keyword::OF])?;
        Ok(Some(match version {
            true => AsOf::Version(i64::try_from(self.parser.parse_literal_uint()?).unwrap_or(i64::MAX)),
            false => {
                let text = self.parser.parse_literal_string()?;
                match versions::named(&text) {
                    // Other engines write numbers as texts, too.
                    Some(name) => name.parse().map_or_else(|_| AsOf::Named(name.to_owned()), AsOf::Version),
                    None => AsOf::Timestamp(text),
                }
            }
        }))
    }

    /// After `CREATE EXTERNAL TABLE`.
    pub(super) fn create_external(&mut self) -> Result<CreateExternal, Failure> {
        let if_not_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = self.name()?;
        let columns = if self.parser.consume_token(&Token::LParen) {
            let columns = self.parser.parse_comma_separated(|parser| parser.parse_column_def())?;
            self.parser.expect_token(&Token::RParen)?;
            columns
        } else {
            vec![]
        };
        let (mut format, mut location) = (None, None);
        let (mut partitioned_by, mut properties) = (vec![], vec![]);
        loop {
            if self.parser.parse_keyword(Keyword::STORED) {
                self.parser.expect_keyword(Keyword::AS)?;
                format = Some(self.lake_format()?);
            } else if self.word("PARTITIONED") {
                self.parser.expect_keyword(Keyword::BY)?;
                partitioned_by = self.partition_fields()?;
            } else if self.parser.parse_keyword(Keyword::LOCATION) {
                location = Some(self.parser.parse_literal_string()?);
            } else if self.word("TBLPROPERTIES") {
                properties = self.options()?;
            } else {
                break;
            }
        }
        let missing = |wanted: &str| {
            self.unexpected(&format!("{wanted} (CREATE EXTERNAL TABLE name STORED AS DELTA LOCATION 'place')"))
        };
        let format = format.ok_or_else(|| missing("STORED AS DELTA"))?;
        let location = location.filter(|location| !location.is_empty()).ok_or_else(|| missing("LOCATION 'place'"))?;
        let place = LakePlace { format, location };
        Ok(CreateExternal { name, if_not_exists, columns, partitioned_by, place, properties })
    }

    /// `(place, bucket(16, id), days(at))`.
    fn partition_fields(&mut self) -> Result<Vec<PartitionBy>, Failure> {
        self.parser.expect_token(&Token::LParen)?;
        let mut fields = vec![];
        loop {
            let name = self.name()?;
            if !self.parser.consume_token(&Token::LParen) {
                fields.push(PartitionBy { column: name, transform: None });
            } else {
                let number = match self.parser.peek_token_ref().token {
                    Token::Number(..) => {
                        let number = u32::try_from(self.parser.parse_literal_uint()?).ok();
                        self.parser.expect_token(&Token::Comma)?;
                        number
                    }
                    _ => None,
                };
                let column = self.name()?;
                self.parser.expect_token(&Token::RParen)?;
                fields.push(PartitionBy { column, transform: Some((name, number)) });
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen)?;
        Ok(fields)
    }

    /// The format after `STORED AS`.
    pub(super) fn lake_format(&mut self) -> Result<LakeFormat, Failure> {
        let format = self.parser.next_token();
        let text = format.token.to_string().to_uppercase();
        LakeFormat::of(&text).ok_or_else(|| {
            let known: Vec<String> = LakeFormat::ALL.iter().map(|format| format.name().to_uppercase()).collect();
            SqlError::new(SqlError::OPTION, format!("tables cannot be stored as {text}"))
                .hint(format!("STORED AS {}", known.join(" or ")))
                .at(self.source.location(format.span))
                .into()
        })
    }

    /// `name` or `delta('place')`, without an alias: a list of columns or the next word of the statement may follow.
    pub(super) fn target(&mut self) -> Result<Target, Failure> {
        let format = LakeFormat::ALL.into_iter().find(|format| self.peek_is(format.name()));
        let is_place = self.parser.peek_nth_token_ref(1).token == Token::LParen
            && matches!(self.parser.peek_nth_token_ref(2).token, Token::SingleQuotedString(_));
        let Some(format) = format.filter(|_| is_place) else { return Ok(Target::Name(self.name()?)) };
        let span = self.parser.next_token().span;
        self.parser.expect_token(&Token::LParen)?;
        let location = self.parser.parse_literal_string()?;
        self.parser.expect_token(&Token::RParen)?;
        Ok(Target::Place { place: LakePlace { format, location }, span })
    }

    fn target_of(&self, table: &TableWithJoins) -> Result<(Target, Option<Ident>), Failure> {
        if !table.joins.is_empty() {
            return Err(self.plain("one table is changed at a time").hint("use MERGE INTO").into());
        }
        self.target_of_factor(&table.relation)
    }

    fn target_of_factor(&self, factor: &TableFactor) -> Result<(Target, Option<Ident>), Failure> {
        let (name, args, alias) = match factor {
            TableFactor::Table { version: Some(_), .. } => {
                return Err(self.plain("the newest version of a table is changed, and no other").into());
            }
            TableFactor::Table { name, args: None, alias, .. } => (name, None, alias),
            TableFactor::Table { name, args: Some(args), alias, .. } => (name, Some(&args.args), alias),
            TableFactor::Function { name, args, alias, .. } => (name, Some(args), alias),
            other => return Err(self.no_target(&other.to_string(), other.span()).into()),
        };
        let alias = alias.as_ref().map(|TableAlias { name, .. }| normalise(name));
        let target = match (name.0.as_slice(), args) {
            ([only], None) => match only.as_ident() {
                Some(ident) => Target::Name(normalise(ident)),
                None => return Err(self.no_target(&name.to_string(), name.span()).into()),
            },
            ([_], Some(args)) => {
                let format = LakeFormat::of(&name.to_string());
                let location = match args.as_slice() {
                    [one] => quoted(&one.to_string()),
                    _ => None,
                };
                match format.zip(location) {
                    Some((format, location)) => {
                        Target::Place { place: LakePlace { format, location }, span: name.span() }
                    }
                    None => return Err(self.no_target(&factor.to_string(), name.span()).into()),
                }
            }
            _ => return Err(self.no_target(&name.to_string(), name.span()).into()),
        };
        Ok((target, alias))
    }

    fn no_target(&self, text: &str, span: Span) -> SqlError {
        SqlError::new(SqlError::NAME, format!("'{text}' is no table that can be changed"))
            .hint("write the name of a table, or delta('place')")
            .at(self.source.location(span))
    }

    fn plain(&self, message: &str) -> SqlError {
        SqlError::new(SqlError::SYNTAX, message)
    }

    fn assignments(&self, assignments: Vec<Assignment>) -> Result<Vec<(Ident, Expr)>, Failure> {
        let one = |assignment: Assignment| match &assignment.target {
            AssignmentTarget::ColumnName(name) => Ok((self.column(name)?, assignment.value)),
            AssignmentTarget::Tuple(_) => Err(self.plain("one column is set at a time").into()),
        };
        assignments.into_iter().map(one).collect()
    }

    /// `c` or `t.c`.
    fn column(&self, name: &ObjectName) -> Result<Ident, Failure> {
        match name.0.last().and_then(|part| part.as_ident()) {
            Some(ident) if name.0.len() <= 2 => Ok(normalise(ident)),
            _ => Err(SqlError::new(SqlError::NAME, format!("'{name}' is no column"))
                .at(self.source.location(name.span()))
                .into()),
        }
    }
}

/// The text of `'…'`.
fn quoted(argument: &str) -> Option<String> {
    let mut parser =
        datafusion::sql::sqlparser::parser::Parser::new(&super::dialect::StreamDialect).try_with_sql(argument).ok()?;
    match parser.parse_value().ok()?.value {
        Value::SingleQuotedString(text) => Some(text),
        _ => None,
    }
}

/// Takes the one table's name, or the name that it was given instead, off its columns.
fn unqualify(expr: &mut impl VisitMut, target: &Target, alias: Option<Ident>) {
    struct Of(String);

    impl VisitorMut for Of {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(parts) = expr
                && let [table, column] = parts.as_slice()
                && normalise(table).value == self.0
            {
                *expr = Expr::Identifier(column.clone());
            }
            ControlFlow::Continue(())
        }
    }

    let name = match (alias, target) {
        (Some(alias), _) => alias.value,
        (None, Target::Name(name)) => name.value.clone(),
        (None, Target::Place { .. }) => return,
    };
    let _ = expr.visit(&mut Of(name));
}

/// An expression as text that means the same whoever reads it: names that were not quoted are lower case.
///
/// # Errors
/// For subqueries, which have no relations where such texts are read.
pub fn expression_text(expr: &Expr) -> Result<String, SqlError> {
    let mut expr = expr.clone();
    match expr.visit(&mut Exact) {
        ControlFlow::Continue(()) => Ok(expr.to_string()),
        ControlFlow::Break(()) => {
            Err(SqlError::new(SqlError::SYNTAX, format!("a subquery cannot be used here: {expr}"))
                .hint("MERGE INTO … USING (SELECT …) AS s ON …"))
        }
    }
}

struct Exact;

impl VisitorMut for Exact {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        ControlFlow::Break(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let exact = |ident: &mut Ident| {
            *ident = Ident::with_quote('"', normalise(ident).value);
        };
        match expr {
            Expr::Identifier(ident) => exact(ident),
            Expr::CompoundIdentifier(parts) => parts.iter_mut().for_each(exact),
            // Microseconds, which is what the tables have; a literal alone would be nanoseconds.
            Expr::TypedString(typed) if matches!(typed.data_type, DataType::Timestamp(None, _)) => {
                *expr = in_micros(typed.value.to_string());
            }
            Expr::Function(function) if is_now(&function.name) => *expr = in_micros(expr.to_string()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_now(name: &ObjectName) -> bool {
    ["now", "current_timestamp"].contains(&name.to_string().to_lowercase().as_str())
}

fn in_micros(value: String) -> Expr {
    Expr::Identifier(Ident::new(format!("arrow_cast({value}, 'Timestamp(Microsecond, None)')")))
}

impl CreateExternal {
    /// The columns as they were written.
    ///
    /// # Errors
    /// For a type that is not known.
    pub fn schema(&self, parsed: &Parsed) -> Result<SchemaRef, SqlError> {
        columns_of(&self.columns, parsed)
    }

    /// What is kept of it, with the columns that its table has.
    pub fn define(&self, parsed: &Parsed, columns: Option<SchemaRef>) -> ExternalTable {
        ExternalTable { name: self.name.value.clone(), text: parsed.text.clone(), place: self.place.clone(), columns }
    }
}

/// The Arrow types of a list of columns.
///
/// # Errors
/// For a type that is not known.
pub fn columns_of(columns: &[ColumnDef], parsed: &Parsed) -> Result<SchemaRef, SqlError> {
    Ok(Arc::new(column_schema(columns, &parsed.source)?))
}

/// The Arrow type of a type in SQL.
///
/// # Errors
/// When it is not known.
pub fn data_type_of(sql: &DataType, parsed: &Parsed) -> Result<arrow::datatypes::DataType, SqlError> {
    let column = ColumnDef { name: Ident::new("column"), data_type: sql.clone(), options: vec![] };
    Ok(columns_of(&[column], parsed)?.field(0).data_type().clone())
}

/// A timestamp as text, in microseconds since 1970-01-01 UTC; without a zone it is UTC.
///
/// # Errors
/// When it is none.
pub fn timestamp_us(text: &str) -> Result<i64, SqlError> {
    string_to_timestamp_nanos(text).map(|ns| ns / 1_000).map_err(|_| {
        SqlError::new(SqlError::TYPE, format!("'{text}' is no timestamp")).hint("like '2026-01-31 12:00:00'")
    })
}
