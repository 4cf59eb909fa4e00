"""A checkpoint: its location, its digest, and the files that are refused before anything is loaded.

A checkpoint's name is the SHA-256 of its manifest: path, size and digest of every file that is read, which are config,
tokenizer, template and one set of weights at the top (`filekinds`, `weightset`). Only safetensors and plain text are
accepted, because reading a pickle runs it and `auto_map` imports code. All this is checked without torch, so `plan` can
refuse a checkpoint in milliseconds.

Other files are not read, and must not be loadable by another program. In a directory other weights are refused, in any
format and in any folder; of a commit on the hub they are never fetched, and `unread` names them. Documents, pictures
and logs are ignored and counted.

It may be a directory, a commit of a Hugging Face repository (`hf://owner/name@commit`), or a PEFT adapter in either,
which is identified together with its base: the same adapter on another base is another model.
"""
