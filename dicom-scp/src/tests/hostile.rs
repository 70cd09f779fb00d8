//! Peers that break the upper layer, on purpose or by habit.

use std::net::{Ipv4Addr, SocketAddr};

use cloister_audit::{Action, Actor, Event};
use dicom_dictionary_std::uids;
use dicom_ul::pdu::{
    AssociationRJ, AssociationRJServiceProviderASCEReason as Acse,
    AssociationRJServiceUserReason as User, AssociationRJSource, Pdu,
    PresentationContextResultReason as Answer, UserVariableItem,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::scu::{Cut, Film, Scu, WHOLE, element, request, store_command};
use super::site::Site;

fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, 0][..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn context(id: u8, abstract_syntax: &str, syntaxes: &[&str]) -> Vec<u8> {
    let mut value = vec![id, 0, 0, 0];
    value.extend(item(0x30, abstract_syntax.as_bytes()));
    for syntax in syntaxes {
        value.extend(item(0x40, syntax.as_bytes()));
    }
    item(0x20, &value)
}

/// An A-ASSOCIATE-RQ of any items.
fn associate(version: u16, items: &[Vec<u8>]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0]);
    body.extend_from_slice(b"CLOISTER        TESTER          ");
    body.extend_from_slice(&[0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    body.extend(items.iter().flatten());
    [&[1, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

fn verification(id: u8) -> Vec<u8> {
    context(id, uids::VERIFICATION, &[uids::IMPLICIT_VR_LITTLE_ENDIAN])
}

async fn answer(addr: SocketAddr, request: &[u8]) -> (Scu, Option<Pdu>) {
    let mut scu = Scu::connect(addr).await;
    scu.send(request).await;
    let answer = scu.read().await;
    (scu, answer)
}

#[tokio::test]
async fn a_request_is_refused_for_what_is_wrong_with_it_and_for_nothing_else() {
    let site = Site::new().await;
    let room = site.start().await;
    let (_, old) = answer(room.dimse, &associate(2, &[verification(1)])).await;
    let Some(Pdu::AssociationRJ(AssociationRJ { source, .. })) = old else {
        panic!("{old:?}")
    };
    let version = AssociationRJSource::ServiceProviderASCE(Acse::ProtocolVersionNotSupported);
    assert_eq!(source, version);

    let (_, empty) = answer(room.dimse, &associate(1, &[])).await;
    let Some(Pdu::AssociationRJ(AssociationRJ { source, .. })) = empty else {
        panic!("{empty:?}")
    };
    assert_eq!(
        source,
        AssociationRJSource::ServiceUser(User::NoReasonGiven)
    );

    let twice = associate(1, &[verification(1), verification(1)]);
    assert!(matches!(
        answer(room.dimse, &twice).await.1,
        Some(Pdu::AbortRQ { .. })
    ));

    // An even number, a context without syntaxes and items that nobody knows harm no other context.
    let roles = [&[0, 17][..], uids::VERIFICATION.as_bytes(), &[1, 1]].concat();
    let user = [
        item(0x51, &0u32.to_be_bytes()),
        item(0x53, &[0, 9, 0, 9]),
        item(0x54, &roles),
        item(0x58, &[2, 1, 0, 1, b'u', 0, 1, b'p']),
        item(0x5F, b"?"),
    ];
    let odd = associate(
        1,
        &[
            item(0x77, b"a stranger"),
            verification(2),
            context(3, uids::CT_IMAGE_STORAGE, &[]),
            verification(5),
            context(
                7,
                uids::STORAGE_COMMITMENT_PUSH_MODEL,
                &[uids::IMPLICIT_VR_LITTLE_ENDIAN],
            ),
            item(0x50, &user.concat()),
        ],
    );
    let (_, accepted) = answer(room.dimse, &odd).await;
    let Some(Pdu::AssociationAC(accepted)) = accepted else {
        panic!("{accepted:?}")
    };
    let reasons: Vec<_> = accepted
        .presentation_contexts
        .iter()
        .map(|context| (context.id, context.reason.clone()))
        .collect();
    let expected = [
        (2, Answer::NoReason),
        (3, Answer::TransferSyntaxesNotSupported),
        (5, Answer::Acceptance),
        (7, Answer::AbstractSyntaxNotSupported),
    ];
    assert_eq!(reasons, expected);
    let user = &accepted.user_variables;
    assert!(
        user.contains(&UserVariableItem::Unknown(0x53, vec![0, 1, 0, 1])),
        "{user:?}"
    );
    let role = user.iter().any(|item| {
        matches!(item, UserVariableItem::ScuScpRoleSelectionSubItem(class, _) if class == uids::VERIFICATION)
    });
    assert!(role, "{user:?}");
    room.stop().await;
}

#[tokio::test]
async fn unknown_storage_classes_are_accepted_where_the_configuration_says_so_but_never_commitment()
{
    let site = Site::new().await;
    let room = site
        .start_with("unknown_sop_classes = \"accept\"", "")
        .await;
    let syntaxes = &[uids::IMPLICIT_VR_LITTLE_ENDIAN];
    let request = associate(
        1,
        &[
            context(1, "1.3.12.2.1107.5.9.1", syntaxes),
            context(3, uids::STORAGE_COMMITMENT_PUSH_MODEL, syntaxes),
        ],
    );
    let (_, accepted) = answer(room.dimse, &request).await;
    let Some(Pdu::AssociationAC(accepted)) = accepted else {
        panic!("{accepted:?}")
    };
    let reasons: Vec<_> = accepted
        .presentation_contexts
        .iter()
        .map(|context| context.reason.clone())
        .collect();
    assert_eq!(
        reasons,
        [Answer::Acceptance, Answer::AbstractSyntaxNotSupported]
    );
    room.stop().await;
}

#[tokio::test]
async fn what_does_not_belong_where_it_comes_aborts_the_association() {
    let site = Site::new().await;
    let room = site.start().await;
    let film = Film::new(1, 1);
    let response = [
        element(0x0100, &0x8001u16.to_le_bytes()),
        element(0x0110, &1u16.to_le_bytes()),
        element(0x0800, &0x0101u16.to_le_bytes()),
    ]
    .concat();
    let release = [5, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    let command = store_command(1, &film.instance);
    for case in 0..6 {
        let mut scu = Scu::associate(room.dimse).await;
        match case {
            0 => scu.send(&associate(1, &[verification(1)])).await,
            1 => scu.send(&[6, 0, 0, 0, 0, 4, 0, 0, 0, 0]).await,
            // A release in the middle of a message.
            2 => {
                scu.values(3, true, &command, usize::MAX).await;
                scu.send(&release).await;
            }
            // Data without a command.
            3 => scu.values(3, false, &film.data_set(), 1000).await,
            4 => scu.values(1, true, &response, usize::MAX).await,
            // A context that was not accepted.
            _ => scu.values(5, true, &command, usize::MAX).await,
        }
        let answer = scu.read().await;
        assert!(
            matches!(answer, Some(Pdu::AbortRQ { .. })),
            "{case}: {answer:?}"
        );
        assert!(scu.read().await.is_none(), "{case}");
    }
    assert!(room.studies().await.is_empty());
    room.stop().await;
}

#[tokio::test]
async fn habits_that_harm_nobody_are_tolerated() {
    let site = Site::new().await;
    let room = site.start_with("max_pdu_bytes = 4096", "").await;
    let mut scu = Scu::associate(room.dimse).await;
    // PDUs longer than agreed.
    let film = Film {
        side: 150,
        ..Film::new(1, 1)
    };
    assert_eq!(scu.store(&film).await, Some(0));
    // C-CANCEL of what is over.
    let cancel = [
        element(0x0100, &0x0FFFu16.to_le_bytes()),
        element(0x0120, &1u16.to_le_bytes()),
        element(0x0800, &0x0101u16.to_le_bytes()),
    ]
    .concat();
    scu.values(3, true, &cancel, usize::MAX).await;
    assert_eq!(scu.echo().await, Some(0));
    // Odd values, and an empty last one.
    let film = Film::new(1, 2);
    let cut = Cut {
        command: 33,
        data: 333,
    };
    assert_eq!(
        scu.store_as(&film.instance, &film.data_set(), cut).await,
        Some(0)
    );
    let film = Film::new(1, 3);
    let value = |control: u8, bytes: &[u8]| {
        let body = [
            &(bytes.len() as u32 + 2).to_be_bytes()[..],
            &[3, control],
            bytes,
        ]
        .concat();
        [&[4, 0][..], &(body.len() as u32).to_be_bytes(), &body].concat()
    };
    let command = store_command(scu.next_message(), &film.instance);
    let pdus = [
        value(1, &command),
        value(3, b""),
        value(0, &film.data_set()),
        value(0, b""),
        value(2, b""),
    ];
    scu.send(&pdus.concat()).await;
    assert_eq!(scu.status().await, Some(0));
    // Not even a habit: more than a mebibyte at once.
    scu.send(&[4, 0, 0, 0x10, 0, 1]).await;
    assert!(matches!(scu.read().await, Some(Pdu::AbortRQ { .. })));
    assert_eq!(room.studies().await[0].objects, 3);
    room.stop().await;
}

#[tokio::test]
async fn answers_fit_the_length_that_the_peer_declares() {
    let site = Site::new().await;
    let room = site.start().await;
    let short = item(0x50, &item(0x51, &20u32.to_be_bytes()));
    let (mut scu, answer) = answer(room.dimse, &associate(1, &[verification(1), short])).await;
    assert!(matches!(answer, Some(Pdu::AssociationAC(_))));
    scu.send_echo().await;
    let mut command = Vec::new();
    loop {
        let mut head = [0; 6];
        scu.stream.read_exact(&mut head).await.unwrap();
        assert!(head[0] == 4 && head[5] <= 20, "{head:?}");
        let mut body = vec![0; usize::from(head[5])];
        scu.stream.read_exact(&mut body).await.unwrap();
        command.extend_from_slice(&body[6..]);
        if body[5] & 2 != 0 {
            break;
        }
    }
    assert!(
        command.windows(6).any(|w| w == [0, 9, 2, 0, 0, 0]),
        "a status"
    );
    room.stop().await;
}

async fn from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(address), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test]
async fn half_open_connections_of_others_never_take_a_senders_place() {
    let site = Site::new().await;
    let limits = "max_connections = 8\nmax_connections_per_peer = 4";
    let room = site.start_with(limits, "").await;
    let mut idlers = Vec::new();
    for address in [[127, 0, 0, 2], [127, 0, 0, 3]] {
        for n in 0..4 {
            let mut idler = from(address, room.dimse).await;
            // Some say nothing, some a little.
            idler.write_all(&[1, 0, 0][..n % 3]).await.unwrap();
            idlers.push(idler);
        }
    }
    for _ in 0..3 {
        let mut scu = Scu::associate(room.dimse).await;
        assert_eq!(scu.echo().await, Some(0));
        assert_eq!(scu.store(&Film::new(1, 1)).await, Some(0));
        scu.release().await;
    }
    drop(idlers);
    room.stop().await;
}

#[tokio::test]
async fn a_request_that_trickles_in_has_the_same_time_as_a_silent_one() {
    let site = Site::new().await;
    let room = site.start_with("request_timeout_ms = 300", "").await;
    let mut stream = TcpStream::connect(room.dimse).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.split();
    let request = associate(1, &[verification(1)]);
    let trickling = async {
        for byte in &request {
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = trickling => panic!("it was let go on to its end"),
        read = reader.read_to_end(&mut answer) => drop(read),
    }
    assert_eq!(answer.first(), Some(&7), "A-ABORT");
    room.stop().await;
}

#[tokio::test]
async fn titles_that_a_peer_makes_up_do_not_fill_the_audit_log() {
    let site = Site::new().await;
    let room = site.start().await;
    for n in 0..60 {
        let mut scu = Scu::connect(room.dimse).await;
        let request = request("CLOISTER", &format!("MADE_UP_{n}"));
        let accepted = scu.ask(&Pdu::AssociationRQ(request)).await;
        assert!(matches!(accepted, Some(Pdu::AssociationAC(_))));
        scu.send(b"nonsense").await;
        assert!(matches!(scu.read().await, Some(Pdu::AbortRQ { .. })));
    }
    let film = Film::new(1, 1);
    let mut scu = Scu::associate(room.dimse).await;
    for _ in 0..30 {
        let answer = scu.store_as("1.2.3.4", &film.data_set(), WHOLE).await;
        assert_eq!(answer, Some(0xA900));
    }
    room.stop().await;
    let loopback = Actor::ip(Ipv4Addr::LOCALHOST.into());
    for (action, expected) in [
        (Action::AssociationRefused, 60),
        (Action::ObjectRefused, 30),
    ] {
        let events = site.events();
        let these: Vec<_> = events
            .iter()
            .filter(|event| event.action() == action)
            .collect();
        let count: u32 = these.iter().copied().map(Event::occurrences).sum();
        assert_eq!(count, expected);
        assert!(these.len() < 10, "{}", these.len());
        assert!(these.iter().all(|event| event.who() == Some(&loopback)));
    }
}
