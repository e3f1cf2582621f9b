//! The options that most commands have.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::config::Flags;

#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The configuration file, if not salon.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for data; `data` if nothing says otherwise
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// A PostgreSQL to use instead of SQLite in the data folder
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Where to listen; 127.0.0.1:8080 if nothing says otherwise
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The list of bots; config/bots.yaml if nothing says otherwise
    #[arg(long, value_name = "FILE")]
    bots: Option<PathBuf>,
}

impl Common {
    pub fn flags(self) -> Flags {
        Flags {
            config: self.config,
            data: self.data,
            database_url: self.database_url,
            listen: self.listen,
            bots: self.bots,
            roles: None,
            only: None,
        }
    }
}
