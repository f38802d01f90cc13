// Every way a peer can break HTTP/2 that is told apart here, and the one table from it to what it ends, the error code
// that goes out, the section that says so and the words for the log. Values only, any thread.
namespace Weir.Protocol.Http2;

/// <summary>Why bytes or fields of a peer were refused.</summary>
public enum Http2Reason : byte
{
    None,
    FirstFrameNotSettings, InvalidPreface, FrameTooLarge, ContinuationExpected, ContinuationUnexpected,
    StreamIdZero, StreamIdNotZero, PaddingTooLong, FrameTooShort, PriorityLength, RstStreamLength,
    SettingsLength, SettingsAckLength, SettingEnablePush, SettingInitialWindow, SettingMaxFrameSize,
    SettingEnableConnect, SettingNoPriorities, PushPromise, PingLength, WindowUpdateLength, WindowIncrementZero,
    ConnectionIncrementZero, WindowOverflow, ConnectionWindowOverflow, InitialWindowOverflow, WindowExceeded,
    ConnectionWindowExceeded, PriorityUpdateLength, PriorityUpdateStream, StreamIdEven,
    StreamIdle, StreamHalfClosed, StreamClosed, TooManyStreams, TrailersNotLast, HpackTruncated, HpackInteger,
    HpackIndex, HpackHuffman, HpackUpdateTooLarge, HpackUpdateMisplaced, HpackUpdateMissing, HeaderBlockTooLarge,
    TooManyContinuations, TooManyGlitches, HeaderListTooLarge, TooManyFields, EmptyFieldName, UpperCaseFieldName,
    InvalidFieldName, InvalidFieldValue, ConnectionField, InvalidTe, PseudoAfterField, UnknownPseudo,
    DuplicatePseudo, PseudoInTrailers, MissingMethod, MissingScheme, MissingPath, InvalidMethod, InvalidScheme,
    InvalidPath, InvalidAuthority, AuthorityDiffersFromHost, InvalidConnect, InvalidProtocol, MissingStatus,
    InvalidStatus, InvalidContentLength, ContentLengthMismatch,
}

/// <summary>What a fault ends.</summary>
public enum FaultScope : byte
{
    None,
    /// <summary>The message is understood and refused by a status, as 431 or nginx's 494; the stream goes on.</summary>
    Message,
    /// <summary>RST_STREAM.</summary>
    Stream,
    /// <summary>GOAWAY, and the connection is closed.</summary>
    Connection,
}

/// <summary>A row of the table.</summary>
public readonly struct Http2Fault(FaultScope scope, Http2Error error, string section, string text)
{
    public FaultScope Scope { get; } = scope;
    public Http2Error Error { get; } = error;
    /// <summary>The document and section that the peer broke.</summary>
    public string Section { get; } = section;
    /// <summary>For the log, behind "client sent" or "upstream sent".</summary>
    public string Text { get; } = text;
}

/// <summary>What reasons mean.</summary>
public static class Http2Reasons
{
    public static bool IsConnectionError(Http2Reason reason) => Of(reason).Scope == FaultScope.Connection;

    public static Http2Error ErrorOf(Http2Reason reason) => Of(reason).Error;

    /// <summary>The row of a reason.</summary>
    public static Http2Fault Of(Http2Reason reason) => reason switch
    {
        Http2Reason.FirstFrameNotSettings => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 3.4",
            "first frame is not SETTINGS"),
        Http2Reason.InvalidPreface => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 3.4",
            "invalid connection preface"),
        Http2Reason.FrameTooLarge => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 4.2",
            "frame larger than SETTINGS_MAX_FRAME_SIZE"),
        Http2Reason.ContinuationExpected => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.2",
            "header block interrupted by another frame"),
        Http2Reason.ContinuationUnexpected => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.10",
            "CONTINUATION without an open header block"),
        Http2Reason.StreamIdZero => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 5.1.1",
            "frame of a stream on stream 0"),
        Http2Reason.StreamIdNotZero => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.5",
            "frame of the connection on a stream"),
        Http2Reason.PaddingTooLong => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.1",
            "padding as long as the payload"),
        Http2Reason.FrameTooShort => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 4.2",
            "frame too small for its mandatory fields"),
        Http2Reason.PriorityLength => new(FaultScope.Stream, Http2Error.FrameSizeError, "RFC 9113 6.3",
            "PRIORITY frame of another length than 5"),
        Http2Reason.RstStreamLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 6.4",
            "RST_STREAM frame of another length than 4"),
        Http2Reason.SettingsLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 6.5",
            "SETTINGS frame whose length is no multiple of 6"),
        Http2Reason.SettingsAckLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 6.5",
            "SETTINGS acknowledgement with a payload"),
        Http2Reason.SettingEnablePush => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.5.2",
            "invalid SETTINGS_ENABLE_PUSH"),
        Http2Reason.SettingInitialWindow => new(FaultScope.Connection, Http2Error.FlowControlError, "RFC 9113 6.5.2",
            "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1"),
        Http2Reason.SettingMaxFrameSize => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.5.2",
            "invalid SETTINGS_MAX_FRAME_SIZE"),
        Http2Reason.SettingEnableConnect => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 8441 3",
            "invalid SETTINGS_ENABLE_CONNECT_PROTOCOL"),
        Http2Reason.SettingNoPriorities => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9218 2.1",
            "invalid SETTINGS_NO_RFC7540_PRIORITIES"),
        Http2Reason.PushPromise => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 8.4",
            "PUSH_PROMISE that nobody asked for"),
        Http2Reason.PingLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 6.7",
            "PING frame of another length than 8"),
        Http2Reason.WindowUpdateLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9113 6.9",
            "WINDOW_UPDATE frame of another length than 4"),
        Http2Reason.WindowIncrementZero => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 6.9",
            "WINDOW_UPDATE of 0"),
        Http2Reason.ConnectionIncrementZero => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 6.9",
            "WINDOW_UPDATE of 0 for the connection"),
        Http2Reason.WindowOverflow => new(FaultScope.Stream, Http2Error.FlowControlError, "RFC 9113 6.9.1",
            "flow control window above 2^31-1"),
        Http2Reason.ConnectionWindowOverflow => new(FaultScope.Connection, Http2Error.FlowControlError,
            "RFC 9113 6.9.1", "connection's flow control window above 2^31-1"),
        Http2Reason.InitialWindowOverflow => new(FaultScope.Connection, Http2Error.FlowControlError, "RFC 9113 6.9.2",
            "SETTINGS_INITIAL_WINDOW_SIZE makes a window exceed 2^31-1"),
        Http2Reason.WindowExceeded => new(FaultScope.Stream, Http2Error.FlowControlError, "RFC 9113 6.9.1",
            "more data than the stream's window allows"),
        Http2Reason.ConnectionWindowExceeded => new(FaultScope.Connection, Http2Error.FlowControlError,
            "RFC 9113 6.9.1", "more data than the connection's window allows"),
        Http2Reason.PriorityUpdateLength => new(FaultScope.Connection, Http2Error.FrameSizeError, "RFC 9218 7.1",
            "PRIORITY_UPDATE frame shorter than 4"),
        Http2Reason.PriorityUpdateStream => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9218 7.1",
            "PRIORITY_UPDATE for stream 0"),
        Http2Reason.StreamIdEven => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 5.1.1",
            "stream of a number that is not the client's"),
        Http2Reason.StreamIdle => new(FaultScope.Connection, Http2Error.ProtocolError, "RFC 9113 5.1",
            "frame on an idle stream"),
        Http2Reason.StreamHalfClosed => new(FaultScope.Stream, Http2Error.StreamClosed, "RFC 9113 5.1",
            "frame on a stream that its sender has ended"),
        Http2Reason.StreamClosed => new(FaultScope.Connection, Http2Error.StreamClosed, "RFC 9113 5.1",
            "frame on a closed stream"),
        Http2Reason.TooManyStreams => new(FaultScope.Stream, Http2Error.RefusedStream, "RFC 9113 5.1.2",
            "more streams than SETTINGS_MAX_CONCURRENT_STREAMS"),
        Http2Reason.TrailersNotLast => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.1",
            "second HEADERS frame without END_STREAM"),
        Http2Reason.HpackTruncated => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 5",
            "header block ends within a field"),
        Http2Reason.HpackInteger => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 5.1",
            "header block with an integer that is too large"),
        Http2Reason.HpackIndex => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 2.3.3",
            "header block with an invalid table index"),
        Http2Reason.HpackHuffman => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 5.2",
            "header block with invalid Huffman code"),
        Http2Reason.HpackUpdateTooLarge => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 6.3",
            "table size update above SETTINGS_HEADER_TABLE_SIZE"),
        Http2Reason.HpackUpdateMisplaced => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 4.2",
            "table size update within a header block"),
        Http2Reason.HpackUpdateMissing => new(FaultScope.Connection, Http2Error.CompressionError, "RFC 7541 4.2",
            "header block without the table size update due"),
        Http2Reason.HeaderBlockTooLarge => new(FaultScope.Connection, Http2Error.EnhanceYourCalm, "RFC 9113 10.5.1",
            "header block larger than allowed"),
        Http2Reason.TooManyContinuations => new(FaultScope.Connection, Http2Error.EnhanceYourCalm, "RFC 9113 10.5",
            "too many CONTINUATION frames"),
        Http2Reason.TooManyGlitches => new(FaultScope.Connection, Http2Error.EnhanceYourCalm, "RFC 9113 10.5",
            "too many frames that do nothing"),
        Http2Reason.HeaderListTooLarge => new(FaultScope.Message, Http2Error.ProtocolError, "RFC 9113 10.5.1",
            "header list larger than allowed"),
        Http2Reason.TooManyFields => new(FaultScope.Message, Http2Error.ProtocolError, "RFC 9113 10.5.1",
            "too many header lines"),
        Http2Reason.EmptyFieldName => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.1",
            "empty header name"),
        Http2Reason.UpperCaseFieldName => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.1",
            "header name with letters in upper case"),
        Http2Reason.InvalidFieldName => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.1",
            "invalid header name"),
        Http2Reason.InvalidFieldValue => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.1",
            "invalid header value"),
        Http2Reason.ConnectionField => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.2",
            "header of the connection"),
        Http2Reason.InvalidTe => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.2.2",
            "TE header with anything but \"trailers\""),
        Http2Reason.PseudoAfterField => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3",
            "pseudo-header after a header"),
        Http2Reason.UnknownPseudo => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3",
            "unknown pseudo-header"),
        Http2Reason.DuplicatePseudo => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3",
            "pseudo-header sent twice"),
        Http2Reason.PseudoInTrailers => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.1",
            "pseudo-header in trailers"),
        Http2Reason.MissingMethod => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "no :method header"),
        Http2Reason.MissingScheme => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "no :scheme header"),
        Http2Reason.MissingPath => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "no :path header"),
        Http2Reason.InvalidMethod => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "invalid :method header"),
        Http2Reason.InvalidScheme => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "invalid :scheme header"),
        Http2Reason.InvalidPath => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "invalid :path header"),
        Http2Reason.InvalidAuthority => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "invalid :authority header"),
        Http2Reason.AuthorityDiffersFromHost => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.1",
            "host header that differs from :authority"),
        Http2Reason.InvalidConnect => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.5",
            "CONNECT with :scheme or :path, or without :authority"),
        Http2Reason.InvalidProtocol => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 8441 4",
            "invalid :protocol header"),
        Http2Reason.MissingStatus => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.2",
            "no :status header"),
        Http2Reason.InvalidStatus => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.3.2",
            "invalid :status header"),
        Http2Reason.InvalidContentLength => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.1.1",
            "invalid content-length header"),
        Http2Reason.ContentLengthMismatch => new(FaultScope.Stream, Http2Error.ProtocolError, "RFC 9113 8.1.1",
            "body of another length than content-length"),
        _ => new(FaultScope.None, Http2Error.NoError, "", ""),
    };
}
