//! The daemon's command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::model::ids::MachineId;
use crate::model::limits;
use crate::model::vpath::VPath;

/// The ciruela daemon: keeps the directories of this host as their signed changes say.
///
/// Logs go to standard error; RUST_LOG sets what is logged (default: info). SIGHUP reads the configuration again, SIGTERM
/// stops. The status is at http://HOST:PORT/, /status.json and /metrics.
#[derive(Debug, Clone, Parser)]
#[command(name = "ciruela-server", version, max_term_width = 100)]
pub struct Args {
    /// Folder with `master.key`, `peers.txt`, `cluster.key`, `configs/NAME.yaml` and `keys/*.key`
    #[arg(short = 'c', long, default_value = "/etc/ciruela", value_name = "DIR", global = true)]
    pub config_base_dir: PathBuf,
    /// Folder for the state database and cached indexes
    #[arg(long, default_value = "/var/lib/ciruela", value_name = "DIR", global = true)]
    pub db_dir: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "0.0.0.0", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// TCP port to listen on
    #[arg(long, default_value_t = limits::DEFAULT_PORT)]
    pub port: u16,
    /// Address at which the other nodes find this one, if it isn't the one of --host
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<IpAddr>,
    /// Connections at a time
    #[arg(long, default_value_t = 1000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Machine id instead of what /etc/machine-id says (32 hexadecimal digits)
    #[arg(long, value_name = "HEX")]
    pub override_machine_id: Option<MachineId>,
    /// Host name instead of the system's
    #[arg(long, value_name = "NAME")]
    pub override_hostname: Option<String>,
    /// Name of this cluster: changes signed for another one are refused
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Read the configuration folder, say what is wrong with it, and do nothing else
    CheckConfig,
    /// Draw the secret which all nodes of a cluster share, and write it to a new file
    NewClusterKey {
        /// The file to make [default: `cluster.key` in the configuration folder]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Compare directories of this host with their images, file by file; the running daemon does it
    ///
    /// Prints each file that is damaged, missing, or not in the image. Exit status: 0 nothing is damaged, 1 something is,
    /// 2 wrong usage, 3 the daemon can't be reached or can't say, 130 interrupted.
    Scrub {
        /// Virtual path of a directory, or of all below it [default: all directories]
        #[arg(value_name = "PATH")]
        path: Option<VPath>,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
}
