//! Options that every word takes, before it or after it, and what they mean together with the environment.

use super::address;
use super::ports::Wanted;
use clap::Args;
use rivermere::{Problem, Project, ProjectSettings, Settings};
use rivermere_table::Adopt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// Folder of log, state and lake [default: PROJECT/data]
    #[arg(long, value_name = "DIR", global = true, env = "RIVERMERE_DATA", hide_env_values = true)]
    pub data: Option<PathBuf>,

    /// Live page and HTTP resources [default: 8080]
    #[arg(long, value_name = "ADDRESS", global = true, env = "RIVERMERE_HTTP", hide_env_values = true)]
    #[arg(value_parser = address::listener)]
    pub http: Option<SocketAddr>,

    /// Kafka protocol [default: 9092]
    #[arg(long, value_name = "ADDRESS", global = true, env = "RIVERMERE_KAFKA", hide_env_values = true)]
    #[arg(value_parser = address::listener)]
    pub kafka: Option<SocketAddr>,

    /// Postgres protocol [default: 5433]
    #[arg(long, value_name = "ADDRESS", global = true, env = "RIVERMERE_PG", hide_env_values = true)]
    #[arg(value_parser = address::listener)]
    pub pg: Option<SocketAddr>,
}

/// Ports when nothing else is said.
const HTTP_PORT: u16 = 8080;
const KAFKA_PORT: u16 = 9092;
const PG_PORT: u16 = 5433;

impl Options {
    /// Where the data of a project is: `--data`, `storage` of its `rivermere.toml`, its folder `data`. `path` is the
    /// project's folder or its one SQL file.
    pub fn data_folder(&self, path: &Path) -> Result<PathBuf, Problem> {
        match &self.data {
            Some(data) => Ok(data.clone()),
            None => {
                let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")) } else { path };
                Ok(ProjectSettings::read(folder)?.data(folder))
            }
        }
    }

    /// Options and environment, then the project's file, then defaults.
    pub fn settings(&self, project: &Project, adopt: Adopt) -> Result<Settings, Problem> {
        let file = &project.settings.listeners;
        let address = |option: Option<SocketAddr>, key: &str, said: &Option<String>, port| match (option, said) {
            (Some(address), _) => Ok(address),
            (None, Some(text)) => address::listener(text).map_err(|reason| {
                let file = project.folder.join("rivermere.toml");
                Problem::new(7109, format!("{}: listeners.{key}: {reason}", file.display()))
            }),
            (None, None) => Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
        };
        Ok(Settings {
            data: self.data.clone().unwrap_or_else(|| project.data()),
            http: address(self.http, "http", &file.http, HTTP_PORT)?,
            kafka: address(self.kafka, "kafka", &file.kafka, KAFKA_PORT)?,
            pg: address(self.pg, "pg", &file.pg, PG_PORT)?,
            adopt,
        })
    }
}

/// The listeners of settings, for telling who has their ports.
pub fn listeners(settings: &Settings) -> [Wanted; 3] {
    [
        Wanted { flag: "http", what: "HTTP", address: settings.http },
        Wanted { flag: "kafka", what: "Kafka", address: settings.kafka },
        Wanted { flag: "pg", what: "Postgres", address: settings.pg },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_win_over_the_file_and_that_over_defaults() {
        let mut project = Project::empty("p", Path::new("p"));
        project.settings.listeners.http = Some("1".into());
        project.settings.listeners.kafka = Some("2".into());
        let options = Options { http: Some("127.0.0.1:3".parse().unwrap()), ..Options::default() };
        let settings = options.settings(&project, Adopt::Refuse).unwrap();
        let ports = [settings.http, settings.kafka, settings.pg].map(|address| address.port());
        assert_eq!((ports, settings.data.as_path()), ([3, 2, PG_PORT], Path::new("p/data")));
    }

    #[test]
    fn an_address_of_the_file_is_checked_like_an_option() {
        let mut project = Project::empty("p", Path::new("p"));
        project.settings.listeners.pg = Some("0.0.0.0:1".into());
        let told = Options::default().settings(&project, Adopt::Refuse).unwrap_err().to_string();
        assert!(told.contains("rivermere.toml: listeners.pg: 0.0.0.0 can be reached from other machines"), "{told}");
    }

    #[test]
    fn storage_of_the_file_is_where_other_words_look_too() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::default();
        assert_eq!(options.data_folder(folder.path()).unwrap(), folder.path().join("data"));
        std::fs::write(folder.path().join("rivermere.toml"), "name = 'x'\nstorage = 'kept'\n").unwrap();
        std::fs::write(folder.path().join("a.sql"), "").unwrap();
        assert_eq!(options.data_folder(folder.path()).unwrap(), folder.path().join("kept"));
        assert_eq!(options.data_folder(&folder.path().join("a.sql")).unwrap(), folder.path().join("kept"));
        let options = Options { data: Some("elsewhere".into()), ..options };
        assert_eq!(options.data_folder(folder.path()).unwrap(), Path::new("elsewhere"));
        // A folder is not guessed from a file that says something else.
        std::fs::write(folder.path().join("rivermere.toml"), "storrage = 'kept'\n").unwrap();
        assert!(Options::default().data_folder(folder.path()).is_err());
    }
}
