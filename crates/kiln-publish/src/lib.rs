//! Releases on GitHub, Gitea and GitLab.
//!
//! [`files::choose`] says what is published, [`Notes`] what people read, [`Place::detect`] where. [`publish`] then looks at
//! what the forge has, makes a [`Plan`] of the difference, and carries it out: a draft first, the files, a look at whether
//! all are there, and the release last. Whatever breaks off leaves a draft, and the next run completes it; a run after that
//! changes nothing. The plan is data, and [`preview`] tells it without sending anything.

mod body;
pub mod changelog;
mod error;
pub mod files;
mod forge;
mod http;
mod model;
mod notes;
mod place;
mod plan;
mod run;

pub use error::{PublishError, Result};
pub use forge::{Access, ForgeKind, Server};
pub use http::Limits;
pub use model::{Event, Events, LocalFile, Outcome, Wanted};
pub use notes::{Commit, Notes};
pub use place::{Given, Place, Token};
pub use plan::{Plan, Step};
pub use run::{preview, publish};
