use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use cloister_seal::KeyId;

use super::*;
use crate::release::release;
use crate::store::{Holding, LogStore, Store};

/// An audit log that can be made to fail.
#[derive(Debug, Default)]
struct Fickle {
    down: AtomicBool,
    released: Mutex<Vec<Uuid>>,
}

impl Audit for Fickle {
    fn record(&self, event: Event) -> BoxFuture<'_, Result<u64, AuditDown>> {
        async move {
            if self.down.load(Ordering::SeqCst) {
                return Err(AuditDown);
            }
            let mut released = self.released.lock().unwrap();
            released.push(event.report_id().unwrap());
            Ok(released.len() as u64 - 1)
        }
        .boxed()
    }

    fn released(&self, report_id: Uuid) -> Option<u64> {
        self.released
            .lock()
            .unwrap()
            .iter()
            .position(|id| *id == report_id)
            .map(|leaf| leaf as u64)
    }

    fn origin(&self) -> &'static str {
        "test"
    }
}

async fn held(store: &LogStore, report_id: Uuid) -> Held {
    let envelope = v1::SealedReport {
        header: b"header".to_vec(),
        ..v1::SealedReport::default()
    };
    let entry = store
        .hold(Holding {
            report_id,
            owner: "spiffe://a/ehr/x".into(),
            recipients: Vec::new(),
            key_ids: vec![KeyId::from_bytes(&[1; 16]).unwrap()],
            header: Vec::new(),
            replaces: Vec::new(),
            sealed_sha256: [0; 32],
            sealed: prost::Message::encode_to_vec(&envelope),
        })
        .await
        .unwrap();
    Held::resume(store, entry).await.unwrap()
}

fn visible(store: &LogStore) -> usize {
    store.released(0, 10, &|_| true).unwrap().len()
}

#[tokio::test]
async fn a_report_whose_record_fails_is_never_visible_and_is_taken_up_again() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Fickle::default();
    audit.down.store(true, Ordering::SeqCst);
    let id = Uuid::new_v4();
    let store = LogStore::open(dir.path()).unwrap();
    assert_eq!(
        record(&audit, held(&store, id).await).await.err(),
        Some(Refusal::AuditDown)
    );
    assert_eq!(visible(&store), 0);

    // A restart, and the audit log works again.
    drop(store);
    audit.down.store(false, Ordering::SeqCst);
    let store = LogStore::open(dir.path()).unwrap();
    assert_eq!((visible(&store), store.held().unwrap()), (0, vec![id]));
    let entry = store.find(id).unwrap().unwrap();
    let recorded = record(&audit, Held::resume(&store, entry).await.unwrap())
        .await
        .unwrap();
    assert_eq!(visible(&store), 0, "recorded is not released");
    let (envelope, receipt) = release(&store, recorded).await.unwrap().into_parts();
    assert_eq!((visible(&store), receipt.leaf_index), (1, 0));
    assert_eq!(envelope.header, b"header");
}

#[tokio::test]
async fn a_crash_after_the_record_leaves_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Fickle::default();
    let id = Uuid::new_v4();
    let store = LogStore::open(dir.path()).unwrap();
    drop(record(&audit, held(&store, id).await).await.unwrap());
    let entry = store.find(id).unwrap().unwrap();
    let recorded = record(&audit, Held::resume(&store, entry).await.unwrap())
        .await
        .unwrap();
    release(&store, recorded).await.unwrap();
    assert_eq!(audit.released.lock().unwrap().len(), 1);
    assert_eq!(visible(&store), 1);
}
