#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Reads a file anonymously with impacket, an SMB client that shares no code with Samba.

    impacket_reader.py PORT SHARE DIALECT NAME LOCAL

DIALECT is SMB1, 2.0.2, 2.1 or 3.0 (with 3.1.1 smbd wants what impacket does not sign for an anonymous user). Reads the
whole file, then ranges of it, over one connection, and compares with LOCAL. Prints how many ranges were right, or says
what went wrong and ends with status 1.
"""

import random
import sys

from impacket import smb, smb3structs, smbconnection

DIALECTS = {
    "SMB1": smb.SMB_DIALECT,
    "2.0.2": smb3structs.SMB2_DIALECT_002,
    "2.1": smb3structs.SMB2_DIALECT_21,
    "3.0": smb3structs.SMB2_DIALECT_30,
}
RANGES = 40
LONGEST = 1 << 20


def main():
    port, share, dialect, name, local = sys.argv[1:]
    with open(local, "rb") as file:
        content = file.read()
    connection = smbconnection.SMBConnection(
        "127.0.0.1", "127.0.0.1", sess_port=int(port), preferredDialect=DIALECTS[dialect], timeout=60
    )
    if connection.getDialect() != DIALECTS[dialect]:
        sys.exit(f"the dialect is {connection.getDialect()}")
    connection.login("", "")

    whole = bytearray()
    connection.getFile(share, name, whole.extend)
    if whole != content:
        sys.exit(f"the whole file: {len(whole)} bytes, or others than there should be")

    tree = connection.connectTree(share)
    file = connection.openFile(tree, name, desiredAccess=0x00120089, shareMode=7)
    chance = random.Random(1)
    right = 0
    for _ in range(RANGES):
        length = chance.randrange(1, LONGEST)
        offset = chance.randrange(0, len(content) - length)
        got = connection.readFile(tree, file, offset, length, singleCall=False)
        if got != content[offset : offset + length]:
            sys.exit(f"{length} bytes at {offset}: {len(got)} bytes, or others than there should be")
        right += 1
    connection.closeFile(tree, file)
    connection.disconnectTree(tree)
    connection.logoff()
    print(f"{right} ranges right")


main()
