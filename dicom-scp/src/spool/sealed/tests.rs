use cloister_log::durable;
use proptest::prelude::*;

use super::*;

fn write(dir: &Path, id: Id, wrapping: &Aes256Gcm, plain: &[u8]) {
    let mut writer =
        SealedWriter::create(&Disk::default(), dir, id, wrapping, Slot::Receive, None).unwrap();
    for part in plain.chunks(10_007) {
        writer.write(part).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), plain.len() as u64);
}

fn read(dir: &Path, id: Id, wrapping: &Aes256Gcm, slot: Slot) -> Result<Vec<u8>, SpoolError> {
    SealedReader::open(dir, id, wrapping, slot)?
        .read_all()
        .map(|plain| plain.to_vec())
}

#[test]
fn every_length_around_a_chunk_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let wrapping = keys::cipher(&[7; 32]);
    for length in [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        3 * CHUNK_BYTES,
        3 * CHUNK_BYTES + 5,
    ] {
        let id = Id::random().unwrap();
        let plain: Vec<u8> = (0..length).map(|at| at as u8).collect();
        write(dir.path(), id, &wrapping, &plain);
        assert_eq!(
            read(dir.path(), id, &wrapping, Slot::Receive).unwrap(),
            plain
        );
    }
}

#[test]
fn after_rewrapping_only_the_study_key_opens_and_doing_it_twice_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (receive, study) = (keys::cipher(&[7; 32]), keys::random_key().unwrap());
    let id = Id::random().unwrap();
    write(dir.path(), id, &receive, b"film");
    for _ in 0..2 {
        rewrap(&Disk::default(), dir.path(), id, &[&receive], &study).unwrap();
        assert_eq!(
            read(dir.path(), id, &keys::cipher(&study), Slot::Study).unwrap(),
            b"film"
        );
        assert!(read(dir.path(), id, &receive, Slot::Receive).is_err());
    }
}

#[test]
fn a_renewed_wrapping_opens_with_the_new_key_only_and_survives_a_torn_slot() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new, study) = (
        keys::cipher(&[7; 32]),
        keys::cipher(&[8; 32]),
        keys::random_key().unwrap(),
    );
    let disk = Disk::default();
    for torn in [false, true] {
        let id = Id::random().unwrap();
        write(dir.path(), id, &old, b"film");
        let path = dir.path().join(id.to_string());
        if torn {
            // As a kill between the two slots leaves it: B holds the new wrapping, A half of it.
            let file = disk.open(&path).unwrap();
            let key = read_key(file.as_file(), id, &old, Slot::Receive).unwrap();
            let wrapped = keys::wrap(&new, &Slot::Receive.purpose(id), &key).unwrap();
            file.write_all_at(&wrapped, SLOT_B).unwrap();
            file.write_all_at(&wrapped[..30], SLOT_A).unwrap();
            rewrap(&disk, dir.path(), id, &[&new, &old], &study).unwrap();
            let plain = read(dir.path(), id, &keys::cipher(&study), Slot::Study).unwrap();
            assert_eq!(plain, b"film");
            continue;
        }
        for _ in 0..2 {
            renew(&disk, dir.path(), id, &new, &[&old]).unwrap();
            assert_eq!(read(dir.path(), id, &new, Slot::Receive).unwrap(), b"film");
            assert!(read(dir.path(), id, &old, Slot::Receive).is_err());
        }
    }
}

#[test]
fn a_destroyed_file_is_gone_and_what_was_linked_to_it_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let wrapping = keys::cipher(&[7; 32]);
    let id = Id::random().unwrap();
    write(dir.path(), id, &wrapping, b"film");
    // What an undelete would find.
    let kept = tempfile::tempdir_in(dir.path()).unwrap();
    let name = id.to_string();
    std::fs::hard_link(dir.path().join(&name), kept.path().join(&name)).unwrap();
    assert!(destroy(&Disk::default(), dir.path(), id).unwrap() > 0);
    assert!(!dir.path().join(&name).exists());
    assert!(read(kept.path(), id, &wrapping, Slot::Receive).is_err());
    assert_eq!(destroy(&Disk::default(), dir.path(), id).unwrap(), 0);
}

#[test]
fn an_unfinished_file_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = SealedWriter::create(
        &Disk::default(),
        dir.path(),
        Id::random().unwrap(),
        &keys::cipher(&[7; 32]),
        Slot::Receive,
        None,
    )
    .unwrap();
    writer.write(b"half").unwrap();
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_under_another_name_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let wrapping = keys::cipher(&[7; 32]);
    let (one, two) = (Id::random().unwrap(), Id::random().unwrap());
    write(dir.path(), one, &wrapping, b"film");
    std::fs::rename(
        dir.path().join(one.to_string()),
        dir.path().join(two.to_string()),
    )
    .unwrap();
    assert!(read(dir.path(), two, &wrapping, Slot::Receive).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_changed_byte_and_any_cut_is_noticed(at in 0usize..(3 * CHUNK_BYTES), bit in 0u8..8, cut in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let wrapping = keys::cipher(&[7; 32]);
        let id = Id::random().unwrap();
        write(dir.path(), id, &wrapping, &vec![1; 2 * CHUNK_BYTES + 100]);
        let path = dir.path().join(id.to_string());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] ^= 1 << bit }
        durable::write_atomic(&path, &bytes, 0o600).unwrap();
        // Slot B is empty and unauthenticated in this file.
        let unused = (SLOT_B as usize..HEAD_BYTES).contains(&at) && !cut;
        prop_assert_eq!(read(dir.path(), id, &wrapping, Slot::Receive).is_ok(), unused);
    }
}
