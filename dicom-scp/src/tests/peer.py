"""A modality and an archive for the tests of the relay, by pynetdicom.

    peer.py archive MODE REPORT_TO PORT     MODE: all, none, some, never, die, liar
    peer.py modality ADDRESS LISTEN TX UID…  LISTEN: port for the report, or "same"

What happens is told as one JSON object a line. The archive ends when its standard input does.
"""

import hashlib
import json
import os
import sys
import threading

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

PATIENCE = 100
LOCK = threading.Lock()


def say(**what):
    with LOCK:
        print(json.dumps(what), flush=True)


def references(uids):
    items = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = ComputedRadiographyImageStorage
        item.ReferencedSOPInstanceUID = uid
        items.append(item)
    return items


def answer(mode, request):
    """Event type and information for an N-ACTION."""
    asked = [item.ReferencedSOPInstanceUID for item in request.ReferencedSOPSequence]
    refused = {"none": asked, "some": [uid for uid in asked if uid.endswith(".2")]}.get(mode, [])
    kept = [uid for uid in asked if uid not in refused]
    if mode == "liar":
        # Names what nobody asked about, and leaves out half of the rest.
        kept = ["1.2.826.0.1.99.77.77", *[uid for uid in kept if uid.endswith(".1")]]
    report = Dataset()
    report.TransactionUID = request.TransactionUID
    if kept:
        report.ReferencedSOPSequence = references(kept)
    if refused:
        items = references(refused)
        for item in items:
            item.FailureReason = 0x0213
        report.FailedSOPSequence = items
    return (2 if refused else 1), report


def deliver(assoc, event_type, report):
    status, _ = assoc.send_n_event_report(
        report, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    say(reported=status.Status if "Status" in status else None)


def archive(mode, report_to, port):
    ae = AE(ae_title="PACS")
    ae.add_supported_context(ComputedRadiographyImageStorage)
    ae.add_supported_context(StorageCommitmentPushModel)

    def stored(event):
        data = event.request.DataSet.getvalue()
        say(
            stored=event.request.AffectedSOPInstanceUID,
            sha256=hashlib.sha256(data).hexdigest(),
            syntax=event.context.transfer_syntax,
        )
        return 0x0000

    def elsewhere(event_type, report):
        host, port = report_to.rsplit(":", 1)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        caller = AE(ae_title="PACS")
        caller.add_requested_context(StorageCommitmentPushModel)
        assoc = caller.associate(host, int(port), ae_title="CLOISTER", ext_neg=[role])
        if not assoc.is_established:
            say(reported=None)
            return
        deliver(assoc, event_type, report)
        assoc.release()

    def asked(event):
        request = event.action_information
        say(asked=request.TransactionUID, objects=len(request.ReferencedSOPSequence))
        if mode == "die":
            os._exit(1)
        if mode != "never":
            event_type, report = answer(mode, request)
            where = elsewhere
            if report_to == "same":
                where = lambda *what: deliver(event.assoc, *what)
            threading.Timer(0.2, where, (event_type, report)).start()
        return 0x0000, None

    handlers = [(evt.EVT_C_STORE, stored), (evt.EVT_N_ACTION, asked)]
    server = ae.start_server(("127.0.0.1", int(port)), block=False, evt_handlers=handlers)
    say(port=server.server_address[1])
    sys.stdin.read()
    os._exit(0)


def modality(address, listen, transaction, *uids):
    told, gone = threading.Event(), threading.Event()

    def sent(event):
        if type(event.message).__name__ == "N_EVENT_REPORT_RSP":
            told.set()

    def report(event):
        information = event.event_information
        failed = information.get("FailedSOPSequence") or []
        kept = information.get("ReferencedSOPSequence") or []
        say(
            event=event.event_type,
            transaction=information.TransactionUID,
            committed=sorted(item.ReferencedSOPInstanceUID for item in kept),
            failed=sorted(
                [item.ReferencedSOPInstanceUID, item.FailureReason] for item in failed
            ),
        )
        return 0x0000, None

    handlers = [
        (evt.EVT_N_EVENT_REPORT, report),
        (evt.EVT_DIMSE_SENT, sent),
        (evt.EVT_CONN_CLOSE, lambda _: told.is_set() and gone.set()),
    ]
    ae = AE(ae_title="TESTER")
    ae.add_requested_context(StorageCommitmentPushModel)
    if listen != "same":
        ae.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        ae.start_server(("127.0.0.1", int(listen)), block=False, evt_handlers=handlers)
    host, port = address.rsplit(":", 1)
    assoc = ae.associate(host, int(port), ae_title="CLOISTER", evt_handlers=handlers)
    if not assoc.is_established:
        say(status=None)
        return
    request = Dataset()
    request.TransactionUID = transaction
    request.ReferencedSOPSequence = references(uids)
    status, _ = assoc.send_n_action(
        request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
    )
    say(status=status.Status if "Status" in status else None)
    if listen != "same":
        assoc.release()
    told.wait(PATIENCE)
    if listen == "same":
        assoc.release()
    else:
        # The answer to the report has to leave first; the caller hangs up.
        gone.wait(PATIENCE)
    os._exit(0)


if __name__ == "__main__":
    {"archive": archive, "modality": modality}[sys.argv[1]](*sys.argv[2:])
