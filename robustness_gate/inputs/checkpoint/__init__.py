"""A checkpoint directory: where it lies, what it is called, and what is refused before anything reads it.

A checkpoint's name is the SHA-256 of its manifest: path, size and digest of every file that is read, which is config,
tokenizer, template and one set of weights at the top (`filekinds`, `weightset`). Only safetensors and plain text are
let in, because reading a pickle runs it and `auto_map` imports code. All this is checked without torch, so `plan` can
refuse a checkpoint in milliseconds.

What lies beside is not read, and must not be what somebody else's loader takes. In a directory other weights are
refused, in any format and wherever they lie; of a commit on the hub they are never fetched, and `unread` names them.
Prose, pictures and logs are ignored and counted.

It may be a directory, a commit of a Hugging Face repository (`hf://owner/name@commit`), or a PEFT adapter in either,
which is named together with the base that it stands on: the same adapter on another base is another model.
"""
