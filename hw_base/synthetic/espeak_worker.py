"""Speaks for `hw_base.synthetic.espeak`, as a program of its own: ``python espeak_worker.py LIBRARY DATA_FOLDER``.

libespeak-ng must not be called from threads, keeps state from one utterance to the next (the second time, the same
sentence has other samples), and a fault in it would end the process. So it is loaded here and never in the process
that trains, and each utterance is spoken by a forked child whose state no utterance has touched. Only the standard
library is imported: the program starts at once, and forking it costs next to nothing.

A request is one line of JSON, ``{"text", "voice", "rate", "pitch", "seed"}``. The answer is one line of JSON,
``{"n_bytes": int, "phones": [[symbol, start sample], ...]}`` followed by so many bytes of 16-bit PCM, or
``{"error": str}``. A request ``{"texts": [str, ...], "voice"}`` is answered by ``{"ipa": [str, ...]}``. The very first
line out is ``{"version": str, "sample_rate": int}`` or ``{"error": str}``.
"""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

# Values from espeak-ng's public header, speak_lib.h.
_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_DONT_EXIT = 0x8000
_UTF8 = 1
_IPA = 0x02
_PHONEME_EVENT = 7
_LIST_TERMINATED = 0
_RATE, _PITCH = 1, 3


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class _Engine:
    """The library, loaded and silent; `say` and `ipa` may be called once in the life of a process.

    Attributes:
        version (str): of the library.
        sample_rate (int): in Hz.
    """

    def __init__(self, library: str, data: str) -> None:
        lib = self._lib = ctypes.CDLL(library)
        lib.espeak_Info.restype = ctypes.c_char_p
        lib.espeak_Info.argtypes = [ctypes.c_void_p]
        lib.espeak_ListVoices.restype = ctypes.c_void_p
        lib.espeak_ListVoices.argtypes = [ctypes.c_void_p]
        lib.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        lib.espeak_SetSynthCallback.argtypes = [_Callback]
        lib.espeak_TextToPhonemes.restype = ctypes.c_char_p
        lib.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int]
        lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        size, unsigned, pointer = ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p
        lib.espeak_Synth.argtypes = [pointer, size, unsigned, ctypes.c_int, unsigned, unsigned, pointer, pointer]
        self.sample_rate = int(lib.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _PHONEME_EVENTS | _DONT_EXIT))
        if self.sample_rate <= 0:
            raise OSError(f"espeak-ng cannot be initialized from {data}")
        self.version = lib.espeak_Info(None).decode()
        # Reads the folder of voices now, once, instead of in every child.
        lib.espeak_ListVoices(None)
        self._pcm = bytearray()
        self._phones: list[tuple[str, int]] = []
        self._callback = _Callback(self._receive)
        lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, n_samples: int, events: Any) -> int:
        if samples and n_samples > 0:
            self._pcm += ctypes.string_at(samples, 2 * n_samples)
        i = 0
        while events[i].type != _LIST_TERMINATED:
            if events[i].type == _PHONEME_EVENT:
                symbol = bytes(events[i].id.string).decode("utf-8", "replace")
                self._phones.append((symbol, int(events[i].sample)))
            i += 1
        return 0

    def say(self, text: str, voice: str, rate: int, pitch: int, seed: int) -> tuple[bytes, list[tuple[str, int]]]:
        """PCM and the phones, each with the sample it starts at."""
        self._lib.espeak_ng_SetRandSeed(seed)
        self._set_voice(voice)
        self._lib.espeak_SetParameter(_RATE, rate, 0)
        self._lib.espeak_SetParameter(_PITCH, pitch, 0)
        raw = text.encode() + b"\0"
        if self._lib.espeak_Synth(raw, len(raw), 0, 1, 0, _UTF8, None, None) != 0:
            raise ValueError("espeak-ng cannot speak this text")
        return bytes(self._pcm), self._phones

    def ipa(self, texts: list[str], voice: str) -> list[str]:
        """The phonetic alphabet for each text, with a space between clauses."""
        self._set_voice(voice)
        return [" ".join(self._clauses(text)) for text in texts]

    def _clauses(self, text: str) -> Iterator[str]:
        raw = ctypes.create_string_buffer(text.encode())
        position = ctypes.c_void_p(ctypes.addressof(raw))
        # Each call reads one clause and moves the position behind it; at the end there is none.
        while position.value:
            yield self._lib.espeak_TextToPhonemes(ctypes.byref(position), _UTF8, _IPA).decode("utf-8", "replace")

    def _set_voice(self, voice: str) -> None:
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng refuses the voice {voice!r}")


def _answer(engine: _Engine, request: dict[str, Any]) -> bytes:
    try:
        if "texts" in request:
            return json.dumps({"ipa": engine.ipa(**request)}).encode() + b"\n"
        pcm, phones = engine.say(**request)
    except ValueError as error:
        return json.dumps({"error": str(error)}).encode() + b"\n"
    return json.dumps({"n_bytes": len(pcm), "phones": phones}).encode() + b"\n" + pcm


def _answer_in_a_child(engine: _Engine, request: dict[str, Any]) -> bytes:
    """The answer, taken from the child only when the child has ended well, so that half an answer is never sent."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with open(writer, "wb") as pipe:
                pipe.write(_answer(engine, request))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return answer
    return json.dumps({"error": f"espeak-ng ended with code {code} instead of speaking"}).encode() + b"\n"


def _main(library: str, data: str) -> None:
    # Ctrl-C reaches the whole group of processes; this one ends when the process that asked closes its end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = sys.stdout.buffer
    try:
        engine = _Engine(library, data)
    except (OSError, AttributeError) as error:
        out.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    out.write(json.dumps({"version": engine.version, "sample_rate": engine.sample_rate}).encode() + b"\n")
    out.flush()
    for line in sys.stdin.buffer:
        try:
            out.write(_answer_in_a_child(engine, json.loads(line)))
            out.flush()
        except BrokenPipeError:
            os._exit(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
