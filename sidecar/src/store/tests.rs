use super::*;

fn key(byte: u8) -> KeyId {
    KeyId::from_bytes(&[byte; 16]).unwrap()
}

fn holding(report_id: Uuid, replaces: Option<Uuid>, keys: &[u8]) -> Holding {
    Holding {
        report_id,
        owner: "spiffe://a/ehr/x".into(),
        recipients: vec!["group:g".into()],
        key_ids: keys.iter().map(|byte| key(*byte)).collect(),
        header: b"header".to_vec(),
        replaces: replaces
            .map(|id| id.as_bytes().to_vec())
            .unwrap_or_default(),
        sealed_sha256: [3; 32],
        sealed: b"ciphertext".to_vec(),
    }
}

fn ids(store: &LogStore, wanted: u8) -> Vec<Uuid> {
    let found = store
        .released(0, 100, &|keys| keys.contains(&key(wanted)))
        .unwrap();
    found.into_iter().map(|entry| entry.report_id).collect()
}

#[tokio::test]
async fn what_is_held_is_durable_and_invisible_until_released() {
    let dir = tempfile::tempdir().unwrap();
    let id = Uuid::new_v4();
    let store = LogStore::open(dir.path()).unwrap();
    let held = store.hold(holding(id, None, &[1])).await.unwrap();
    assert!(held.release.is_none());
    assert!(matches!(
        store.hold(holding(id, None, &[1])).await,
        Err(StoreError::Exists)
    ));
    drop(store);
    let store = LogStore::open(dir.path()).unwrap();
    assert_eq!(store.held().unwrap(), [id]);
    assert!(ids(&store, 1).is_empty());
    assert_eq!(*store.latest().borrow(), 0);

    let released = store.release(id, 42).await.unwrap();
    assert_eq!(
        store.release(id, 43).await.unwrap(),
        released,
        "a second release changes nothing"
    );
    drop(store);
    let store = LogStore::open(dir.path()).unwrap();
    assert!(store.held().unwrap().is_empty());
    assert_eq!(ids(&store, 1), [id]);
    assert!(ids(&store, 2).is_empty());
    let entry = store.find(id).unwrap().unwrap();
    assert_eq!(entry, released);
    assert_eq!(entry.release.unwrap().leaf_index, 42);
    assert_eq!(*store.latest().borrow(), entry.release.unwrap().position);
    assert_eq!(store.sealed(&entry).await.unwrap(), b"ciphertext");
}

#[tokio::test]
async fn a_report_is_current_until_its_successor_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
    store.hold(holding(old, None, &[1])).await.unwrap();
    store.release(old, 0).await.unwrap();
    store.hold(holding(new, Some(old), &[1])).await.unwrap();
    assert!(store.is_current(old).unwrap(), "held is not released");
    store.release(new, 1).await.unwrap();
    assert!(!store.is_current(old).unwrap());
    assert!(store.is_current(new).unwrap());
    assert_eq!(ids(&store, 1), [old, new], "oldest first");
}

#[tokio::test]
async fn the_index_may_be_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    let id = Uuid::new_v4();
    store.hold(holding(id, None, &[1])).await.unwrap();
    store.release(id, 7).await.unwrap();
    store
        .acknowledge(id, "spiffe://a/clinician/x", 8)
        .await
        .unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    assert_eq!(ids(&store, 1), [id]);
    assert_eq!(
        store.acknowledged(id, "spiffe://a/clinician/x").unwrap(),
        Some(8)
    );
    assert_eq!(
        store.acknowledged(id, "spiffe://a/clinician/y").unwrap(),
        None
    );
}

#[tokio::test]
async fn a_release_of_nothing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path()).unwrap();
    assert!(matches!(
        store.release(Uuid::new_v4(), 0).await,
        Err(StoreError::Missing)
    ));
}
