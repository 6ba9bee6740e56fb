#!/usr/bin/env python3
"""Writes scp03.txt: whole exchanges with a card, computed by other software than AKM's.

It needs the package `cryptography` (OpenSSL): python3 scp03.py > scp03.txt
"""
import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

AID = bytes.fromhex("f0414b4d3101")
SERIAL = b"SIM-0001"
VERSION = 0x30
ENC = bytes(range(0x00, 0x10))
MAC = bytes(range(0x10, 0x20))
DEK = bytes(range(0x20, 0x30))


def cmac(key, data):
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()


def kdf(key, constant, bits, context):
    return cmac(key, bytes(11) + bytes([constant, 0]) + bits.to_bytes(2, "big") + b"\x01" + context)[: bits // 8]


def cbc(key, initial, data):
    encryptor = Cipher(algorithms.AES(key), modes.CBC(initial)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


def ecb(key, block):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(block) + encryptor.finalize()


def f(root, label, context):
    message = (1).to_bytes(4, "big") + label + b"\0" + context + (8192).to_bytes(4, "big")
    return hmac.new(root, message, hashlib.sha256).digest()


def exchange(sequence, host_challenge, name, root):
    counter = sequence.to_bytes(3, "big")
    card_challenge = kdf(ENC, 2, 64, counter + AID)
    both = host_challenge + card_challenge
    s_enc, s_mac, s_rmac = kdf(ENC, 4, 128, both), kdf(MAC, 6, 128, both), kdf(MAC, 7, 128, both)
    information = hashlib.sha256(SERIAL).digest()[:10] + bytes([VERSION, 3, 0x70])
    update = bytes([0x80, 0x50, VERSION, 0, 8]) + host_challenge + b"\0"
    updated = information + card_challenge + kdf(s_mac, 0, 64, both) + counter + b"\x90\0"
    head = bytes.fromhex("8482130010") + kdf(s_mac, 1, 64, both)
    chaining = cmac(s_mac, bytes(16) + head)
    authenticate = head + chaining[:8]
    plain = information[:10] + name + cbc(DEK, bytes(16), root) + b"\x80"
    plain += bytes(-len(plain) % 16)
    encrypted = cbc(s_enc, ecb(s_enc, (1).to_bytes(16, "big")), plain)
    head = bytes([0x84, 0xE2, 0xA0, 0, len(encrypted) + 8]) + encrypted
    chaining = cmac(s_mac, chaining + head)
    store = head + chaining[:8]
    stored = cmac(s_rmac, chaining + b"\x90\0")[:8] + b"\x90\0"
    return [("update", update), ("updated", updated), ("authenticate", authenticate), ("store", store), ("stored", stored)]


print("# Made by scp03.py. Serial number, key version, ENC, MAC, DEK; then exchanges for a sequence counter.")
print(SERIAL.decode(), f"{VERSION:02x}", ENC.hex(), MAC.hex(), DEK.hex())
for sequence, root in [(0, b"\x11" * 32), (1, b"\x11" * 32), (2, b"\x22" * 32)]:
    name = bytes.fromhex("0f8fad5bd9cb469fa16570867728950e00000001") + hashlib.sha256(root).digest()[:4]
    host_challenge = hashlib.sha256(b"host challenge %d" % sequence).digest()[:8]
    print("sequence", f"{sequence:06x}")
    for word, value in [("challenge", host_challenge), ("name", name), ("root", root)]:
        print(word, value.hex())
    for word, value in exchange(sequence, host_challenge, name, root):
        print(word, value.hex())
    print("f", f(root, b"akm1 card", bytes(range(16))).hex())
