//! Files from elsewhere: archives, URLs and git repositories.
//!
//! [`archive`] recognises archives by their content and reads them as streams; `unpack` puts one into a folder, safely;
//! [`http`] and [`git`] bring files into a cache on the client ([`Cache`]), where an unchanged one is found again. All of
//! it runs before a build is planned: the graph only names what was fetched.

pub mod archive;
mod cache;
mod error;
pub mod git;
pub mod http;
mod unpack;

pub use cache::Cache;
pub use error::{FetchError, Result};
pub use unpack::{Attributes, unpack};
