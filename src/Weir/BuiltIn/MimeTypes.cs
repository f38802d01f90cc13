// The media types of files for configurations that bring no mime.types of their own. Names as registered with IANA;
// endings as today's web uses them.
namespace Weir;

internal static class MimeTypes
{
    public const string Text = """
        types {
            text/html                             html htm shtml;
            text/css                              css;
            text/javascript                       js mjs;
            text/plain                            txt text log md conf ini;
            text/csv                              csv;
            text/xml                              xml;
            text/calendar                         ics;
            text/vtt                              vtt;
            text/mathml                           mml;

            image/avif                            avif;
            image/bmp                             bmp;
            image/gif                             gif;
            image/jpeg                            jpeg jpg;
            image/jxl                             jxl;
            image/png                             png;
            image/svg+xml                         svg svgz;
            image/tiff                            tif tiff;
            image/webp                            webp;
            image/x-icon                          ico;

            font/collection                       ttc;
            font/otf                              otf;
            font/ttf                              ttf;
            font/woff                             woff;
            font/woff2                            woff2;

            audio/aac                             aac;
            audio/flac                            flac;
            audio/midi                            mid midi;
            audio/mp4                             m4a;
            audio/mpeg                            mp3;
            audio/ogg                             ogg oga opus;
            audio/wav                             wav;
            audio/webm                            weba;

            video/3gpp                            3gp;
            video/mp2t                            ts;
            video/mp4                             mp4 m4v;
            video/mpeg                            mpeg mpg;
            video/ogg                             ogv;
            video/quicktime                       mov;
            video/webm                            webm;
            video/x-matroska                      mkv;
            video/x-msvideo                       avi;

            application/atom+xml                  atom;
            application/rss+xml                   rss;
            application/json                      json map;
            application/geo+json                  geojson;
            application/ld+json                   jsonld;
            application/manifest+json             webmanifest;
            application/wasm                      wasm;
            application/yaml                      yaml yml;
            application/toml                      toml;
            application/xhtml+xml                 xhtml;
            application/xslt+xml                  xslt xsl;
            application/pdf                       pdf;
            application/rtf                       rtf;
            application/epub+zip                  epub;
            application/java-archive              jar war ear;
            application/vnd.apple.mpegurl         m3u8;
            application/dash+xml                  mpd;
            application/vnd.ms-excel              xls;
            application/vnd.ms-fontobject         eot;
            application/vnd.ms-powerpoint         ppt;
            application/msword                    doc;
            application/vnd.oasis.opendocument.text          odt;
            application/vnd.oasis.opendocument.spreadsheet   ods;
            application/vnd.oasis.opendocument.presentation  odp;
            application/vnd.openxmlformats-officedocument.wordprocessingml.document   docx;
            application/vnd.openxmlformats-officedocument.spreadsheetml.sheet         xlsx;
            application/vnd.openxmlformats-officedocument.presentationml.presentation pptx;
            application/gzip                      gz tgz;
            application/zip                       zip;
            application/zstd                      zst;
            application/x-7z-compressed           7z;
            application/x-bzip2                   bz2;
            application/x-rar-compressed          rar;
            application/x-tar                     tar;
            application/x-xz                      xz;
            application/x-x509-ca-cert            der pem crt;
            application/octet-stream              bin exe dll deb dmg iso img msi apk;
        }

        """;
}
