//! Every bound of the product, named with its unit last, by what it bounds.

mod client;
mod cluster;
mod config;
mod deploy;
mod disk;
mod image;
mod keeping;
mod wire;

pub use self::client::*;
pub use self::cluster::*;
pub use self::config::*;
pub use self::deploy::*;
pub use self::disk::*;
pub use self::image::*;
pub use self::keeping::*;
pub use self::wire::*;
