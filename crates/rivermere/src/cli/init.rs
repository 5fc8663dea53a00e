//! `rivermere init`: a new project.

use super::failure::{Failure, Outcome};
use clap::{Args, ValueEnum};
use rivermere::demo::template;
use rivermere_base::{Disk, TopicName};
use rivermere_store::LocalDisk;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  rivermere init orders                       an empty project, with a first table to try in comments
  rivermere init flights --template flights   the demo's project, with its data";

/// Make a new project
#[derive(Args, Debug)]
#[command(name = "init", after_help = EXAMPLES)]
pub struct Init {
    /// Folder to make; its last part names the project
    #[arg(value_name = "NAME")]
    folder: PathBuf,

    /// What is in it
    #[arg(long, value_enum, default_value_t = Template::Empty)]
    template: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Template {
    /// A table and a view in comments
    Empty,
    /// The demo: flights, weather, views, a dashboard
    Flights,
}

const GITIGNORE: &str = "# Log, state and lake of `rivermere run`.\n/data/\n";

const FIRST_SQL: &str = "\
-- Tables and views of this project, in any order and in any number of files: they are run in the order they depend on
-- each other. Take the dashes away and run the project to try these.
--
-- CREATE TABLE orders (
--   id BIGINT NOT NULL,
--   country TEXT,
--   amount DOUBLE,
--   placed_at TIMESTAMP(3),
--   WATERMARK FOR placed_at AS placed_at - INTERVAL '1' MINUTE
-- );
--
-- CREATE MATERIALIZED VIEW turnover AS
-- SELECT country, window_start, COUNT(*) AS orders, SUM(amount) AS amount
-- FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(placed_at), INTERVAL '1' HOUR))
-- GROUP BY country, window_start;
";

impl Init {
    pub fn run(self) -> Outcome {
        let folder = &self.folder;
        let name = project_name(folder)?;
        let disk = LocalDisk::new();
        match disk.read_dir(folder) {
            Ok(entries) if !entries.is_empty() => {
                return Err(Failure::new(format!("RM-7110: {} is there already and not empty", folder.display()))
                    .hint(format!(
                        "choose another name, or start what is there: `rivermere run {}`",
                        folder.display()
                    )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unwritable(folder, &error)),
        }
        match self.template {
            Template::Empty => write_empty(&disk, folder, &name).map_err(|error| unwritable(folder, &error))?,
            Template::Flights => write_flights(&disk, folder)?,
        }
        let mut out = io::stdout().lock();
        writeln!(out, "made {}", folder.display())?;
        writeln!(out, "next: rivermere run {}", folder.display())?;
        Ok(())
    }
}

/// The project's name: the last part of its folder, in the letters that a topic may have too.
fn project_name(folder: &Path) -> Result<String, Failure> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    TopicName::new(name).map(|name| name.to_string()).map_err(|_| {
        Failure::new(format!("RM-7111: '{}' does not end with a project's name", folder.display()))
            .hint("use letters, digits, '.', '_' and '-'")
            .usage()
    })
}

fn write_empty(disk: &LocalDisk, folder: &Path, name: &str) -> io::Result<()> {
    disk.create_dir_all(&folder.join("sql"))?;
    disk.create_dir_all(&folder.join("dashboards"))?;
    disk.write_atomic(&folder.join(".gitignore"), GITIGNORE.as_bytes())?;
    disk.write_atomic(&folder.join("sql/tables.sql"), FIRST_SQL.as_bytes())?;
    // Last: a folder with this file is a whole project.
    disk.write_atomic(&folder.join("rivermere.toml"), format!("name = \"{name}\"\n").as_bytes())
}

fn write_flights(disk: &LocalDisk, folder: &Path) -> Outcome {
    template::init(disk, folder, template::Template::Flights).map_err(|error| Failure::new(error.to_string()))?;
    Ok(())
}

fn unwritable(folder: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("RM-7112: {} could not be made: {error}", folder.display()))
}
