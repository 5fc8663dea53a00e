//! What the prompt knows beside SQL: `\d` and its kin, in psql's words.

use super::super::failure::{Failure, Outcome};
use super::super::instance::Instance;
use super::super::status::state_name;
use super::super::table::Table;
use super::Output;
use rivermere::quantities::{count, counted};
use rivermere_serve::ViewInfo;
use std::io::Write;

pub const HELP: &str = "\
  \\dt              tables and topics
  \\dv              views
  \\d               all of them
  \\d NAME          columns, key and text of one
  \\output FORMAT   table, json or csv
  \\timing          tell how long statements take, or stop telling
  \\status          what the process does
  \\? \\h            this list
  \\q               end (Ctrl-D too)
A statement ends with a semicolon. Ctrl-C leaves what is typed, Ctrl-R searches what was, Tab completes.";

const TABLES: &str = "SELECT table_name AS \"table or topic\" FROM information_schema.tables \
    WHERE table_schema = 'public' AND table_type <> 'VIEW' ORDER BY 1";

/// What the prompt remembers between statements.
#[derive(Debug)]
pub struct Settings {
    pub output: Output,
    pub timing: bool,
}

/// What comes after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Prompt,
    End,
}

/// Runs a line that starts with a backslash.
pub fn run(line: &str, instance: &Instance, settings: &mut Settings, out: &mut impl Write) -> Result<Next, Failure> {
    let mut words = line.trim().trim_end_matches(';').split_whitespace();
    let command = words.next().unwrap_or_default();
    let argument = words.next();
    match (command, argument) {
        ("\\q" | "\\quit" | "\\exit", _) => return Ok(Next::End),
        ("\\?" | "\\h" | "\\help", _) => writeln!(out, "{HELP}")?,
        ("\\d", Some(name)) => describe(name, instance, out)?,
        ("\\d", None) => {
            show(TABLES, instance, out)?;
            show_views(instance, out)?;
        }
        ("\\dt", _) => show(TABLES, instance, out)?,
        ("\\dv", _) => show_views(instance, out)?,
        ("\\timing", _) => {
            settings.timing = !settings.timing;
            writeln!(out, "timing is {}", if settings.timing { "on" } else { "off" })?;
        }
        ("\\output" | "\\o", Some(format)) => {
            settings.output = match format {
                "table" => Output::Table,
                "json" => Output::Json,
                "csv" => Output::Csv,
                _ => return Err(Failure::new(format!("'{format}' is none of table, json and csv"))),
            };
        }
        ("\\output" | "\\o", None) => return Err(Failure::new("say which: \\output table, json or csv")),
        ("\\status", _) => {
            let status = instance.status()?;
            writeln!(
                out,
                "{} on {}: {}, epoch {}, lag {}",
                status.name,
                instance.url(),
                state_name(status.state),
                count(status.epoch),
                count(status.lag)
            )?;
        }
        (command, _) => {
            let known = ["\\d", "\\dt", "\\dv", "\\output", "\\timing", "\\status", "\\q", "\\help"];
            let hint =
                rivermere_sql::suggestion(command, known).unwrap_or_else(|| "\\? lists what there is".to_owned());
            return Err(Failure::new(format!("there is no command {command}")).hint(hint));
        }
    }
    Ok(Next::Prompt)
}

fn show(statement: &str, instance: &Instance, out: &mut impl Write) -> Outcome {
    super::answer::run(instance, statement, Output::Table, super::Shown::All, out)
}

fn show_views(instance: &Instance, out: &mut impl Write) -> Outcome {
    let views: Vec<ViewInfo> = instance.get("/v1/views")?;
    let mut table = Table::new().left("view").right("rows").left("key").left("stored as");
    for view in &views {
        let stored_as = view.stored_as.clone().unwrap_or_default();
        table.row([view.name.clone(), count(view.rows), view.key.join(", "), stored_as]);
    }
    table.write(out)?;
    writeln!(out, "({})", counted(views.len() as u64, "view"))?;
    Ok(())
}

fn describe(name: &str, instance: &Instance, out: &mut impl Write) -> Outcome {
    let views: Vec<ViewInfo> = instance.get("/v1/views")?;
    let Some(view) = views.into_iter().find(|view| view.name == name) else {
        let quoted = format!("\"{}\"", name.trim_matches('"').replace('"', "\"\""));
        return show(&format!("DESCRIBE {quoted}"), instance, out);
    };
    let mut table = Table::new().left("column").left("type").left("nullable").left("key");
    for column in &view.columns {
        let yes = |is: bool| if is { "yes" } else { "" }.to_owned();
        let is_key = view.key.contains(&column.name);
        table.row([column.name.clone(), column.data_type.clone(), yes(column.nullable), yes(is_key)]);
    }
    table.write(out)?;
    writeln!(out, "{}, epoch {}", counted(view.rows, "row"), count(view.epoch))?;
    for line in view.sql.trim().lines() {
        writeln!(out, "  {}", super::super::terminal::harmless(line))?;
    }
    Ok(())
}
