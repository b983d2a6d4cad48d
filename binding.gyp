{
  "targets": [
    {
      "target_name": "plinth",
      "conditions": [
        ["OS=='linux' and (target_arch=='x64' or target_arch=='arm64')", {
          "sources": [
            "src/native/module.c",
            "src/native/arguments.c",
            "src/native/mapping.c",
            "src/native/space.c",
            "src/native/residency.c",
            "src/native/flush.c",
            "src/native/checksum.c",
            "src/native/commit.c",
            "src/native/writer.c"
          ],
          "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
          "cflags": ["-std=c11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
          "ldflags": ["-Wl,-z,nodelete"]
        }, {
          "sources": ["src/native/unsupported.c"]
        }]
      ]
    }
  ]
}
