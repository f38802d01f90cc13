// The error codes of HTTP/2 (RFC 9113 §7) and their names for logs. Values only, any thread.
namespace Weir.Protocol.Http2;

/// <summary>Error codes of RST_STREAM and GOAWAY.</summary>
public enum Http2Error : uint
{
    NoError = 0x0,
    ProtocolError = 0x1,
    InternalError = 0x2,
    FlowControlError = 0x3,
    SettingsTimeout = 0x4,
    StreamClosed = 0x5,
    FrameSizeError = 0x6,
    RefusedStream = 0x7,
    Cancel = 0x8,
    CompressionError = 0x9,
    ConnectError = 0xa,
    EnhanceYourCalm = 0xb,
    InadequateSecurity = 0xc,
    Http11Required = 0xd,
}

/// <summary>Names of error codes.</summary>
public static class Http2Errors
{
    /// <summary>The name RFC 9113 gives the code; for codes it does not know, "unknown error".</summary>
    public static string Name(Http2Error error) => error switch
    {
        Http2Error.NoError => "NO_ERROR",
        Http2Error.ProtocolError => "PROTOCOL_ERROR",
        Http2Error.InternalError => "INTERNAL_ERROR",
        Http2Error.FlowControlError => "FLOW_CONTROL_ERROR",
        Http2Error.SettingsTimeout => "SETTINGS_TIMEOUT",
        Http2Error.StreamClosed => "STREAM_CLOSED",
        Http2Error.FrameSizeError => "FRAME_SIZE_ERROR",
        Http2Error.RefusedStream => "REFUSED_STREAM",
        Http2Error.Cancel => "CANCEL",
        Http2Error.CompressionError => "COMPRESSION_ERROR",
        Http2Error.ConnectError => "CONNECT_ERROR",
        Http2Error.EnhanceYourCalm => "ENHANCE_YOUR_CALM",
        Http2Error.InadequateSecurity => "INADEQUATE_SECURITY",
        Http2Error.Http11Required => "HTTP_1_1_REQUIRED",
        _ => "unknown error",
    };
}
