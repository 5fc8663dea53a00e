//! Our own statements, read from sqlparser's token stream.

use super::dialect::StreamDialect;
use super::lake::{CreateExternal, LakeStatement, Target};
use super::script::Parsed;
use super::{versions, windows};
use crate::catalog::LakeFormat;
use crate::catalog::{TableDefinition, Watermark};
use crate::error::{Source, SqlError};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, ColumnDef, ColumnOption, Expr, Ident, ObjectName, Query, Visit, Visitor,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{IsOptional, Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// A statement of the dialect.
#[derive(Clone, Debug)]
pub enum Statement {
    CreateTable(CreateTable),
    CreateView(CreateView),
    CreateExternal(CreateExternal),
    /// About one table of the lake.
    Lake(LakeStatement),
    Insert(Insert),
    Drop {
        kind: ObjectKind,
        name: Ident,
        if_exists: bool,
    },
    Query(Box<Query>),
    /// `EXPLAIN` of the batch plan, or `EXPLAIN STREAMING` of the incremental one.
    Explain {
        streaming: bool,
        query: Box<Query>,
    },
    Show(Show),
    /// `DESCRIBE name`.
    Describe(Ident),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Table,
    View,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    Tables,
    Views,
    Topics,
    Watermarks,
}

/// `CREATE TABLE name (columns, WATERMARK FOR c AS c - INTERVAL …) WITH (…)`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: Ident,
    pub if_not_exists: bool,
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<(Ident, Expr)>,
    pub primary_key: Vec<Ident>,
    pub options: Vec<(String, String, Span)>,
}

impl CreateTable {
    /// The table's definition with its options and types checked.
    ///
    /// # Errors
    /// Unknown or wrong options, a watermark on a column that is no timestamp, unsupported types.
    pub fn define(&self, parsed: &Parsed) -> Result<TableDefinition, SqlError> {
        TableDefinition::new(self, parsed)
    }
}

/// `CREATE MATERIALIZED VIEW name [STORED AS format [LOCATION '…'] [TBLPROPERTIES (…)]] AS query [EMIT …]`.
#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: Ident,
    pub if_not_exists: bool,
    pub stored_as: Option<StoredAs>,
    pub query: Box<Query>,
    pub emit: Emit,
}

/// Where a view is kept as a lake table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAs {
    pub format: LakeFormat,
    /// Relative to the lake folder; the view's name when it was left out.
    pub location: Option<String>,
    /// In the words of the format; given to the table when it is made.
    pub properties: Vec<(String, String)>,
}

/// When a view's changes are passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Emit {
    #[default]
    OnChange,
}

/// `INSERT INTO | OVERWRITE table [(columns)] query`.
#[derive(Clone, Debug)]
pub struct Insert {
    pub table: Target,
    /// Rows that are there are replaced; a table of the lake can do that.
    pub overwrite: bool,
    pub columns: Vec<Ident>,
    pub query: Box<Query>,
}

pub(super) fn parse(tokens: Vec<TokenWithSpan>, source: &Source) -> Result<Statement, SqlError> {
    let (tokens, emit) = split_emit(tokens, source)?;
    let mut reader = Reader { parser: Parser::new(&StreamDialect).with_tokens_with_locations(tokens), source };
    let statement = reader.statement(emit).map_err(|failure| match failure {
        Failure::Parser(error) => source.syntax_error(&error.to_string()),
        Failure::Ours(error) => error,
    })?;
    let rest = reader.parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("unexpected '{}' after the end of the statement", rest.token);
        return Err(SqlError::new(SqlError::SYNTAX, message)
            .hint("statements are separated by ';'")
            .at(source.location(rest.span)));
    }
    Ok(statement)
}

pub(super) enum Failure {
    Parser(ParserError),
    Ours(SqlError),
}

impl From<ParserError> for Failure {
    fn from(error: ParserError) -> Self {
        Self::Parser(error)
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Ours(error)
    }
}

pub(super) struct Reader<'a> {
    pub(super) parser: Parser<'a>,
    pub(super) source: &'a Source,
}

impl Reader<'_> {
    fn statement(&mut self, emit: Option<Emit>) -> Result<Statement, Failure> {
        let first = self.parser.peek_token();
        if self.word("CREATE") {
            return self.create(emit);
        }
        if self.parser.parse_keyword(Keyword::INSERT) {
            let overwrite = self.word("OVERWRITE");
            match overwrite {
                true => drop(self.word("INTO") || self.word("TABLE")),
                false => self.parser.expect_keyword(Keyword::INTO).map(drop)?,
            }
            let table = self.target()?;
            let columns = if self.parser.peek_token_ref().token == Token::LParen && !self.subquery_follows() {
                self.parser.parse_parenthesized_column_list(IsOptional::Optional, false)?
            } else {
                vec![]
            };
            let query = self.query()?;
            return Ok(Statement::Insert(Insert { table, overwrite, columns, query }));
        }
        if self.parser.parse_keyword(Keyword::DROP) {
            let kind = if self.word("MATERIALIZED") || self.peek_is("VIEW") {
                self.parser.expect_keyword(Keyword::VIEW)?;
                ObjectKind::View
            } else {
                self.parser.expect_keyword(Keyword::TABLE)?;
                ObjectKind::Table
            };
            let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
            return Ok(Statement::Drop { kind, name: self.name()?, if_exists });
        }
        if self.parser.parse_keyword(Keyword::EXPLAIN) {
            let streaming = self.word("STREAMING");
            return Ok(Statement::Explain { streaming, query: self.query()? });
        }
        if self.word("SHOW") {
            for (word, show) in [
                ("TABLES", Show::Tables),
                ("VIEWS", Show::Views),
                ("TOPICS", Show::Topics),
                ("WATERMARKS", Show::Watermarks),
            ] {
                if self.word(word) || (word == "VIEWS" && self.word("MATERIALIZED") && self.word("VIEWS")) {
                    return Ok(Statement::Show(show));
                }
            }
            return Err(self.unexpected("TABLES, VIEWS, TOPICS or WATERMARKS after SHOW").into());
        }
        if self.word("DESCRIBE") || self.word("DESC") {
            if self.peek_is("HISTORY") && matches!(self.parser.peek_nth_token_ref(1).token, Token::Word(_)) {
                self.parser.next_token();
                return Ok(Statement::Lake(self.history()?));
            }
            return Ok(Statement::Describe(self.name()?));
        }
        if matches!(&first.token, Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM))
            || first.token == Token::LParen
        {
            return Ok(Statement::Query(self.query()?));
        }
        type Read<'a> = fn(&mut Reader<'a>) -> Result<LakeStatement, Failure>;
        let verbs: [(&str, Read); 6] = [
            ("DELETE", Self::delete),
            ("UPDATE", Self::update),
            ("MERGE", Self::merge),
            ("OPTIMIZE", Self::optimize),
            ("VACUUM", Self::vacuum),
            ("RESTORE", Self::restore),
        ];
        for (word, read) in verbs {
            if self.peek_is(word) {
                // DELETE and UPDATE are sqlparser's, which wants their token.
                if !matches!(word, "DELETE" | "UPDATE") {
                    self.parser.next_token();
                }
                return Ok(Statement::Lake(read(self)?));
            }
        }
        if self.word("ALTER") {
            self.parser.expect_keyword(Keyword::TABLE)?;
            return Ok(Statement::Lake(self.alter()?));
        }
        let words = [
            "CREATE", "INSERT", "DROP", "EXPLAIN", "SHOW", "DESCRIBE", "SELECT", "WITH", "VALUES", "UPDATE", "DELETE",
            "MERGE", "ALTER", "OPTIMIZE", "VACUUM", "RESTORE",
        ];
        let text = first.token.to_string();
        Err(SqlError::new(SqlError::SYNTAX, format!("'{text}' does not start a statement"))
            .maybe_hint(
                crate::error::suggestion(&text, words)
                    .or_else(|| Some(format!("statements start with {}", words.join(", ")))),
            )
            .at(self.source.location(first.span))
            .into())
    }

    fn create(&mut self, emit: Option<Emit>) -> Result<Statement, Failure> {
        let place = self.parser.peek_token().span;
        if self.parser.parse_keyword(Keyword::OR) && !self.word("REFRESH") {
            self.parser.expect_keyword(Keyword::REPLACE)?;
            return Err(SqlError::new(
                SqlError::SYNTAX,
                "CREATE OR REPLACE needs live replacement, which is not there",
            )
            .hint("give the changed view a new name, or start over with an empty data folder")
            .at(self.source.location(place))
            .into());
        }
        if self.word("EXTERNAL") {
            self.parser.expect_keyword(Keyword::TABLE)?;
            return Ok(Statement::CreateExternal(self.create_external()?));
        }
        let streaming = self.word("STREAMING");
        if self.parser.parse_keyword(Keyword::MATERIALIZED) {
            self.parser.expect_keyword(Keyword::VIEW)?;
            return self.create_view(emit);
        }
        if streaming || self.peek_is("TABLE") {
            self.parser.expect_keyword(Keyword::TABLE)?;
            return self.create_table();
        }
        if self.word("SOURCE") || self.word("STREAM") {
            return self.create_table();
        }
        let next = self.parser.peek_token();
        let hint = if self.peek_is("VIEW") {
            "views are kept up to date: write CREATE MATERIALIZED VIEW".to_string()
        } else {
            "CREATE TABLE, CREATE EXTERNAL TABLE, CREATE MATERIALIZED VIEW".to_string()
        };
        Err(SqlError::new(SqlError::SYNTAX, format!("CREATE {} is not known", next.token))
            .hint(hint)
            .at(self.source.location(next.span))
            .into())
    }

    fn create_table(&mut self) -> Result<Statement, Failure> {
        let if_not_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = self.name()?;
        let mut table =
            CreateTable { name, if_not_exists, columns: vec![], watermark: None, primary_key: vec![], options: vec![] };
        self.parser.expect_token(&Token::LParen)?;
        loop {
            if self.word("WATERMARK") {
                self.parser.expect_keyword(Keyword::FOR)?;
                let column = self.parser.parse_identifier()?;
                self.parser.expect_keyword(Keyword::AS)?;
                table.watermark = Some((column, self.parser.parse_expr()?));
            } else if self.parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
                table.primary_key = self.parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?;
                if self.parser.parse_keyword(Keyword::NOT) && !self.word("ENFORCED") {
                    return Err(self.unexpected("ENFORCED").into());
                }
            } else {
                let column = self.parser.parse_column_def()?;
                let is_key = |option: &ColumnOption| matches!(option, ColumnOption::PrimaryKey(_));
                if column.options.iter().any(|option| is_key(&option.option)) {
                    table.primary_key = vec![column.name.clone()];
                }
                table.columns.push(column);
            }
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen)?;
        if self.parser.parse_keyword(Keyword::WITH) {
            table.options = self.options()?;
        }
        Ok(Statement::CreateTable(table))
    }

    fn create_view(&mut self, mut emit: Option<Emit>) -> Result<Statement, Failure> {
        let if_not_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let name = self.name()?;
        let mut stored_as = None;
        if self.parser.parse_keyword(Keyword::STORED) {
            self.parser.expect_keyword(Keyword::AS)?;
            let format = self.lake_format()?;
            let location = if self.parser.parse_keyword(Keyword::LOCATION) {
                Some(self.parser.parse_literal_string()?)
            } else {
                None
            };
            let properties = if self.word("TBLPROPERTIES") { self.options()? } else { vec![] };
            let properties = properties.into_iter().map(|(name, value, _)| (name, value)).collect();
            stored_as = Some(StoredAs { format, location, properties });
        }
        self.parser.expect_keyword(Keyword::AS)?;
        let query = self.query()?;
        let emit = emit.take().unwrap_or_default();
        Ok(Statement::CreateView(CreateView { name, if_not_exists, stored_as, query, emit }))
    }

    /// `('key' = 'value', …)`.
    pub(super) fn options(&mut self) -> Result<Vec<(String, String, Span)>, Failure> {
        self.parser.expect_token(&Token::LParen)?;
        let mut options: Vec<(String, String, Span)> = vec![];
        loop {
            let span = self.parser.peek_token().span;
            let key = self.parser.parse_literal_string()?;
            self.parser.expect_token(&Token::Eq)?;
            let value = self.parser.parse_literal_string()?;
            if options.iter().any(|(other, _, _)| *other == key) {
                return Err(SqlError::new(SqlError::OPTION, format!("option '{key}' is given twice"))
                    .at(self.source.location(span))
                    .into());
            }
            options.push((key, value, span));
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        self.parser.expect_token(&Token::RParen)?;
        Ok(options)
    }

    fn query(&mut self) -> Result<Box<Query>, Failure> {
        let mut query = self.parser.parse_query()?;
        windows::rewrite(&mut query, self.source)?;
        versions::rewrite(&mut query, self.source)?;
        Ok(query)
    }

    pub(super) fn name(&mut self) -> Result<Ident, Failure> {
        let span = self.parser.peek_token().span;
        let name: ObjectName = self.parser.parse_object_name(false)?;
        match name.0.as_slice() {
            [only] => match only.as_ident() {
                Some(ident) => Ok(normalise(ident)),
                None => Err(self.unexpected("a name").into()),
            },
            _ => Err(SqlError::new(SqlError::NAME, format!("'{name}': names have one part, without a schema"))
                .at(self.source.location(span))
                .into()),
        }
    }

    /// Consumes the next token when it is this word, which may be no keyword of sqlparser.
    pub(super) fn word(&mut self, text: &str) -> bool {
        let found = self.peek_is(text);
        if found {
            self.parser.next_token();
        }
        found
    }

    pub(super) fn peek_is(&self, text: &str) -> bool {
        matches!(&self.parser.peek_token_ref().token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
    }

    fn subquery_follows(&self) -> bool {
        matches!(&self.parser.peek_nth_token(1).token, Token::Word(word) if matches!(word.keyword, Keyword::SELECT | Keyword::WITH | Keyword::VALUES))
    }

    pub(super) fn unexpected(&self, wanted: &str) -> SqlError {
        let found = self.parser.peek_token();
        SqlError::new(SqlError::SYNTAX, format!("expected {wanted}, found '{}'", found.token))
            .at(self.source.location(found.span))
    }
}

/// Unquoted names are lower case, as in PostgreSQL.
pub fn normalise(ident: &Ident) -> Ident {
    let mut ident = ident.clone();
    if ident.quote_style.is_none() {
        ident.value = ident.value.to_lowercase();
    }
    ident
}

/// Cuts `EMIT …` off the end of a statement; sqlparser would take EMIT for an alias.
fn split_emit(mut tokens: Vec<TokenWithSpan>, source: &Source) -> Result<(Vec<TokenWithSpan>, Option<Emit>), SqlError> {
    let is_word = |token: &TokenWithSpan, text: &str| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
    let written: Vec<usize> =
        (0..tokens.len()).filter(|index| !matches!(tokens[*index].token, Token::Whitespace(_) | Token::EOF)).collect();
    let Some(at) = written.iter().rposition(|index| is_word(&tokens[*index], "EMIT")) else {
        return Ok((tokens, None));
    };
    let words: Vec<String> =
        written[at + 1..].iter().map(|index| tokens[*index].token.to_string().to_uppercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let place = source.location(tokens[written[at]].span);
    let emit = match words.as_slice() {
        ["CHANGES"] | ["ON", "CHANGE"] => Emit::OnChange,
        ["ON", "WINDOW", "CLOSE"] | ["FINAL"] | ["EVERY", ..] => {
            return Err(SqlError::new(SqlError::NOT_MAINTAINABLE, format!("EMIT {} is not there", words.join(" ")))
                .hint("EMIT ON CHANGE is the default: every view is right after every step")
                .at(place));
        }
        // A column or alias named emit, further inside the query.
        _ => return Ok((tokens, None)),
    };
    tokens.truncate(written[at]);
    Ok((tokens, Some(emit)))
}

/// The names of all relations that a query reads, without its own CTEs.
pub fn query_relations(query: &Query) -> BTreeSet<String> {
    struct Names {
        found: BTreeSet<String>,
        ctes: BTreeSet<String>,
    }
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
                self.ctes.insert(normalise(&cte.alias.name).value);
            }
            ControlFlow::Continue(())
        }
        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
            if let [only] = name.0.as_slice()
                && let Some(ident) = only.as_ident()
            {
                self.found.insert(normalise(ident).value);
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names { found: BTreeSet::new(), ctes: BTreeSet::new() };
    let _ = query.visit(&mut names);
    names.found.difference(&names.ctes).cloned().collect()
}

impl Watermark {
    /// `WATERMARK FOR column AS column [- INTERVAL …]`.
    pub(crate) fn parse(column: &Ident, expr: &Expr) -> Result<Self, SqlError> {
        let wrong = || {
            SqlError::new(
                SqlError::SYNTAX,
                format!("a watermark is the column or the column minus an interval, not '{expr}'"),
            )
            .hint(format!("WATERMARK FOR {column} AS {column} - INTERVAL '5' SECOND"))
        };
        let is_column =
            |expr: &Expr| matches!(expr, Expr::Identifier(ident) if normalise(ident).value == normalise(column).value);
        let name = normalise(column).value;
        match expr {
            expr if is_column(expr) => Ok(Self { column: name, delay_us: 0 }),
            Expr::BinaryOp { left, op: BinaryOperator::Minus, right } if is_column(left) => {
                let delay_us = windows::interval_us(right).ok_or_else(wrong)?;
                Ok(Self { column: name, delay_us })
            }
            _ => Err(wrong()),
        }
    }
}
