//! Flink-flavoured ANSI SQL with PostgreSQL expressions.

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// The function name that `TABLE t` becomes inside a window function's arguments.
pub(crate) const TABLE_ARGUMENT: &str = "__table_argument";

#[derive(Debug)]
pub(crate) struct StreamDialect;

impl Dialect for StreamDialect {
    fn is_identifier_start(&self, c: char) -> bool {
        GenericDialect {}.is_identifier_start(c)
    }

    fn is_identifier_part(&self, c: char) -> bool {
        GenericDialect {}.is_identifier_part(c)
    }

    fn is_delimited_identifier_start(&self, c: char) -> bool {
        c == '"' || c == '`'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_select_wildcard_except(&self) -> bool {
        true
    }

    /// `TABLE t [PARTITION BY k, …]` as the argument of a window function (SQL:2016 polymorphic table functions).
    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match &parser.peek_token_ref().token {
            Token::Word(word) if word.keyword == Keyword::TABLE => {}
            _ => return None,
        }
        parser.next_token();
        Some(parse_table_argument(parser))
    }
}

fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let name = parser.parse_object_name(false)?;
    let parts = name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let mut args = vec![Expr::CompoundIdentifier(parts)];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        let in_parentheses = parser.consume_token(&Token::LParen);
        args.push(Expr::Identifier(parser.parse_identifier()?));
        // The comma after the last column separates the arguments: DESCRIPTOR(…) follows it.
        while matches!(&parser.peek_nth_token_ref(1).token, Token::Word(word) if !word.value.eq_ignore_ascii_case("descriptor"))
            && parser.consume_token(&Token::Comma)
        {
            args.push(Expr::Identifier(parser.parse_identifier()?));
        }
        if in_parentheses {
            parser.expect_token(&Token::RParen)?;
        }
    }
    Ok(table_argument(args))
}

fn table_argument(args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(TABLE_ARGUMENT)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect(),
            clauses: vec![],
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}
