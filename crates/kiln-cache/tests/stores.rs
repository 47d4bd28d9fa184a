//! Stores that need no server, against what every store must do.

mod common;

use kiln_cache::reach::{Limits, Network, Reach};
use kiln_cache::store::{Folder, Objects};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    common::check(&Folder::new(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store() {
    let reach = Reach::new(&Network::default(), Limits::default()).unwrap();
    let service = opendal::services::Memory::default().root("/some/prefix");
    common::check(&Objects::new(service, "memory".to_owned(), &reach, []).unwrap()).await;
}
