/*
 * SPDX-License-Identifier: BSD-2-Clause
 *
 * Sends file data by snapsend instead of sendfile().
 *
 * The module replaces c->send_chain of plain connections.  A piece of a file,
 * with the memory buffers in front of it, becomes an operation of the library.
 * While an operation is in flight, the connection looks to nginx like one
 * whose socket is full; when DONE arrives, like one whose socket has become
 * writable.  What has been sent is then accounted for by the next call of
 * send_chain, so that limit_rate and sendfile_max_chunk see it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

#include <snapsend.h>


#if !(NGX_THREADS)
#error "nginx must be built --with-threads: file->thread_ctx names the request"
#endif


/* what sendfile() is given at most by nginx */
#define NGX_HTTP_SNAPSEND_MAX_SIZE     (2147483647L - (off_t) ngx_pagesize)

/* longer memory in front of a file is written by nginx first */
#define NGX_HTTP_SNAPSEND_MAX_HEADER   16384

#define NGX_HTTP_SNAPSEND_COPY_SIZE    32768

/* snapsend_min_size, measured: of copies, and of pages of registered files */
#define NGX_HTTP_SNAPSEND_COPIED_MIN   1048576
#define NGX_HTTP_SNAPSEND_LENT_MIN     32768

#define NGX_HTTP_SNAPSEND_COMPLETIONS  64

/* of a connection at a time, with snapsend_zerocopy */
#define NGX_HTTP_SNAPSEND_OPERATIONS   8

/* how often progress is looked at within send_timeout */
#define NGX_HTTP_SNAPSEND_WATCHES      8

/* tcpi_bytes_acked, Linux 4.1; glibc's struct tcp_info ends before it */
#define NGX_HTTP_SNAPSEND_BYTES_ACKED  120


typedef struct {
    ngx_uint_t                   used;
    ngx_uint_t                   zerocopy;
} ngx_http_snapsend_main_conf_t;


typedef struct {
    ngx_flag_t                   enable;
    size_t                       min_size;
    ngx_flag_t                   zerocopy;
} ngx_http_snapsend_loc_conf_t;


/*
 * Of a connection.  It has one operation in flight.  With snapsend_zerocopy
 * that operation may have been SENT, and the next one follows before its DONE.
 */

typedef struct {
    /* the main request that the operations are of, while any is pending */
    ngx_http_request_t          *request;
    ngx_uint_t                   status;

    /* operations whose DONE has not come; each blocks the request */
    ngx_uint_t                   pending;

    /* of the last operation; while it is in flight, its id only */
    struct snapsend_completion   done;
    off_t                        size;

    /* the status of an earlier one that failed after it had been SENT */
    int32_t                      failed;

    /* the registered socket; 0: none, or -errno if there cannot be one */
    int                          socket;

    /* while operations are pending */
    ngx_event_t                  watch;
    uint64_t                     progress;

    unsigned                     in_flight:1;
    unsigned                     unaccounted:1;
    unsigned                     refused:1;
    unsigned                     used:1;
} ngx_http_snapsend_ctx_t;


/*
 * A registered file of an open_file_cache.  It is one of those who use the
 * cached file, so that its descriptor is neither closed nor another file's.
 */

typedef struct {
    ngx_rbtree_node_t            node;
    ngx_queue_t                  queue;

    /* its cleanup ends the use */
    ngx_pool_t                  *pool;

    int                          handle;
    time_t                       used;
    time_t                       inactive;
} ngx_http_snapsend_file_t;


/* of the worker; the key is the descriptor, the first has been used last */

typedef struct {
    ngx_rbtree_t                 rbtree;
    ngx_rbtree_node_t            sentinel;
    ngx_queue_t                  queue;
    ngx_uint_t                   count;
    ngx_event_t                  expire;
} ngx_http_snapsend_files_t;


static ngx_chain_t *ngx_http_snapsend_send_chain(ngx_connection_t *c,
    ngx_chain_t *in, off_t limit);
static ngx_chain_t *ngx_http_snapsend_send_next(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, ngx_chain_t *in, off_t limit);
#if (NGX_HTTP_V2)
static off_t ngx_http_snapsend_other_frames(ngx_chain_t *in,
    ngx_chain_t *file);
#endif
static ngx_chain_t *ngx_http_snapsend_send_other(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, ngx_chain_t *in, off_t limit);
static ngx_chain_t *ngx_http_snapsend_wait(ngx_connection_t *c,
    ngx_chain_t *in);
static uint32_t ngx_http_snapsend_flags(ngx_http_snapsend_ctx_t *ctx,
    ngx_buf_t *file, ngx_chain_t *rest);
static ngx_chain_t *ngx_http_snapsend_send_file(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, ngx_chain_t *in,
    struct snapsend_request *request, ngx_buf_t *file);
static void ngx_http_snapsend_use_registered(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, struct snapsend_request *request,
    ngx_buf_t *file);
static ngx_int_t ngx_http_snapsend_del_connection(ngx_connection_t *c,
    ngx_uint_t flags);
static ngx_http_snapsend_file_t *ngx_http_snapsend_find_file(ngx_fd_t fd);
static ngx_http_snapsend_file_t *ngx_http_snapsend_register_file(
    ngx_http_request_t *r, ngx_file_t *file);
static ngx_cached_open_file_t *ngx_http_snapsend_find_cached(
    ngx_open_file_cache_t *cache, ngx_str_t *name);
static ngx_http_snapsend_file_t *ngx_http_snapsend_use_cached(
    ngx_http_core_loc_conf_t *clcf, ngx_str_t *name,
    ngx_cached_open_file_t *cached);
static void ngx_http_snapsend_unregister_file(ngx_http_snapsend_file_t *f);
static void ngx_http_snapsend_unregister_last(void);
static void ngx_http_snapsend_expire_handler(ngx_event_t *ev);
static int ngx_http_snapsend_start(ngx_http_snapsend_ctx_t *ctx,
    struct snapsend_request *request, size_t min_size);
static ngx_chain_t *ngx_http_snapsend_copy(ngx_connection_t *c,
    ngx_chain_t *in, ngx_buf_t *file, off_t size);
static ngx_chain_t *ngx_http_snapsend_account(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, ngx_chain_t *in);
static ngx_chain_t *ngx_http_snapsend_fail(ngx_connection_t *c, int32_t status,
    ngx_chain_t *rest);
static ngx_int_t ngx_http_snapsend_take_request(ngx_http_snapsend_ctx_t *ctx,
    ngx_http_request_t *r);
static void ngx_http_snapsend_hold(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx);
static void ngx_http_snapsend_finish(ngx_http_snapsend_ctx_t *ctx,
    struct snapsend_completion *done);
static void ngx_http_snapsend_request_cleanup(void *data);
static void ngx_http_snapsend_account_terminated(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx);
static void ngx_http_snapsend_connection_cleanup(void *data);
static void ngx_http_snapsend_event_handler(ngx_event_t *ev);
static void ngx_http_snapsend_watch_handler(ngx_event_t *ev);
static uint64_t ngx_http_snapsend_progress(ngx_connection_t *c,
    uint64_t before);
static ngx_msec_t ngx_http_snapsend_timeout(ngx_http_request_t *r);
static void ngx_http_snapsend_check_zerocopy(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_snapsend_init_event(ngx_cycle_t *cycle);
static void ngx_http_snapsend_init_registered(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_snapsend_init_process(ngx_cycle_t *cycle);
static void ngx_http_snapsend_exit_process(ngx_cycle_t *cycle);
static void *ngx_http_snapsend_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_snapsend_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_snapsend_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_snapsend_init(ngx_conf_t *cf);


static ngx_command_t  ngx_http_snapsend_commands[] = {

    { ngx_string("snapsend"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_snapsend_loc_conf_t, enable),
      NULL },

    { ngx_string("snapsend_min_size"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_snapsend_loc_conf_t, min_size),
      NULL },

    { ngx_string("snapsend_zerocopy"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_snapsend_loc_conf_t, zerocopy),
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_snapsend_module_ctx = {
    NULL,                                  /* preconfiguration */
    ngx_http_snapsend_init,                /* postconfiguration */

    ngx_http_snapsend_create_main_conf,    /* create main configuration */
    NULL,                                  /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_snapsend_create_loc_conf,     /* create location configuration */
    ngx_http_snapsend_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_snapsend_module = {
    NGX_MODULE_V1,
    &ngx_http_snapsend_module_ctx,         /* module context */
    ngx_http_snapsend_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_snapsend_init_process,        /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_snapsend_exit_process,        /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;

/* of this worker; NULL: nginx itself reads what is to be sent */
static snapsend_t                       *ngx_http_snapsend;
static ngx_connection_t                 *ngx_http_snapsend_connection;
static ngx_http_snapsend_files_t         ngx_http_snapsend_files;
static ngx_int_t                       (*ngx_http_snapsend_next_del_connection)(
    ngx_connection_t *c, ngx_uint_t flags);

static u_char  ngx_http_snapsend_buffer[NGX_HTTP_SNAPSEND_COPY_SIZE];


/* the connection that has the socket */

static ngx_inline ngx_connection_t *
ngx_http_snapsend_get_connection(ngx_http_request_t *r)
{
#if (NGX_HTTP_V2)
    if (r->stream) {
        return r->stream->connection->connection;
    }
#endif

    return r->connection;
}


static ngx_http_snapsend_ctx_t *
ngx_http_snapsend_get_ctx(ngx_connection_t *c)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = c->pool->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_snapsend_connection_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


/*
 * The configuration for a piece of a file, or NULL if it is nginx's to send.
 * Each file buffer comes through the copy filter, which leaves its request
 * in thread_ctx.
 */

static ngx_http_snapsend_loc_conf_t *
ngx_http_snapsend_get_conf(ngx_buf_t *b)
{
    ngx_http_request_t            *r;
    ngx_http_snapsend_loc_conf_t  *slcf;

    if (!b->in_file || b->file->thread_ctx == NULL) {
        return NULL;
    }

    r = b->file->thread_ctx;
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_snapsend_module);

    return slcf->enable ? slcf : NULL;
}


static ngx_int_t
ngx_http_snapsend_header_filter(ngx_http_request_t *r)
{
    ngx_connection_t              *c;
    ngx_pool_cleanup_t            *cln;
    ngx_http_snapsend_ctx_t       *ctx;
    ngx_http_snapsend_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_snapsend_module);

    if (!slcf->enable) {
        return ngx_http_next_header_filter(r);
    }

    c = ngx_http_snapsend_get_connection(r);

    if (c->send_chain == ngx_send_chain) {

        cln = ngx_pool_cleanup_add(c->pool, sizeof(ngx_http_snapsend_ctx_t));
        if (cln == NULL) {
            return NGX_ERROR;
        }

        ctx = cln->data;
        ngx_memzero(ctx, sizeof(ngx_http_snapsend_ctx_t));

        ctx->watch.handler = ngx_http_snapsend_watch_handler;
        ctx->watch.data = c;
        ctx->watch.log = c->log;

        cln->handler = ngx_http_snapsend_connection_cleanup;
        c->send_chain = ngx_http_snapsend_send_chain;
    }

    if (c->send_chain == ngx_http_snapsend_send_chain) {
        /* the copy filter is to leave file buffers as they are */
        r->connection->sendfile = 1;
    }

    return ngx_http_next_header_filter(r);
}


/*
 * What the copy filter has read for other filters is sent from memory, as
 * with "sendfile off".  Otherwise filters would make small pieces of files.
 */

static ngx_int_t
ngx_http_snapsend_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t                   *cl;
    ngx_connection_t              *c;
    ngx_http_snapsend_loc_conf_t  *slcf;

    slcf = ngx_http_get_module_loc_conf(r, ngx_http_snapsend_module);
    c = ngx_http_snapsend_get_connection(r);

    if (slcf->enable && c->send_chain == ngx_http_snapsend_send_chain) {

        for (cl = in; cl; cl = cl->next) {
            if (ngx_buf_in_memory(cl->buf)) {
                cl->buf->in_file = 0;
            }
        }
    }

    return ngx_http_next_body_filter(r, in);
}


static ngx_chain_t *
ngx_http_snapsend_send_chain(ngx_connection_t *c, ngx_chain_t *in, off_t limit)
{
    off_t                     start, sent;
    ngx_http_snapsend_ctx_t  *ctx;

    ctx = ngx_http_snapsend_get_ctx(c);

    if (ctx->in_flight) {
        return ngx_http_snapsend_wait(c, in);
    }

    if (limit == 0 || limit > NGX_HTTP_SNAPSEND_MAX_SIZE) {
        limit = NGX_HTTP_SNAPSEND_MAX_SIZE;
    }

    start = c->sent;

    if (ctx->unaccounted) {
        in = ngx_http_snapsend_account(c, ctx, in);

        if (in == NGX_CHAIN_ERROR) {
            return in;
        }
    }

    if (ctx->failed) {
        return ngx_http_snapsend_fail(c, ctx->failed, NULL);
    }

    while (in && c->write->ready && c->sent - start < limit) {
        sent = c->sent;

        in = ngx_http_snapsend_send_next(c, ctx, in, limit - (sent - start));

        if (in == NGX_CHAIN_ERROR || (c->sent == sent && !ctx->refused)) {
            return in;
        }
    }

    return in;
}


/* one system call, or operation, or a few that nginx makes */

static ngx_chain_t *
ngx_http_snapsend_send_next(ngx_connection_t *c, ngx_http_snapsend_ctx_t *ctx,
    ngx_chain_t *in, off_t limit)
{
    off_t                    size;
    ngx_buf_t               *file;
    ngx_chain_t             *cl;
    ngx_iovec_t              header;
    struct iovec             headers[NGX_IOVS_PREALLOCATE];
    struct snapsend_request  request;

    header.iovs = headers;
    header.nalloc = NGX_IOVS_PREALLOCATE;

    cl = ngx_output_chain_to_iovec(&header, in, limit, c->log);

    if (cl == NGX_CHAIN_ERROR) {
        return NGX_CHAIN_ERROR;
    }

    if (cl == NULL
        || ngx_http_snapsend_get_conf(cl->buf) == NULL
        || (off_t) header.size >= limit
        || header.size > NGX_HTTP_SNAPSEND_MAX_HEADER)
    {
        return ngx_http_snapsend_send_other(c, ctx, in, limit);
    }

#if (NGX_HTTP_V2)

    size = ngx_http_snapsend_other_frames(in, cl);

    if (size) {
        return ngx_send_chain(c, in, size);
    }

#endif

    file = cl->buf;
    size = ngx_chain_coalesce_file(&cl, limit - header.size);

    if (size == 0) {
        ngx_debug_point();
        return NGX_CHAIN_ERROR;
    }

    ngx_memzero(&request, sizeof(struct snapsend_request));

    request.socket_fd = c->fd;
    request.file_fd = file->file->fd;
    request.offset = file->file_pos;
    request.length = size;
    request.header = header.iovs;
    request.header_count = header.count;
    request.flags = ngx_http_snapsend_flags(ctx, file, cl);
    request.user_data = (uintptr_t) ctx;

    ctx->size = header.size + size;

    return ngx_http_snapsend_send_file(c, ctx, in, &request, file);
}


#if (NGX_HTTP_V2)

/*
 * How much is in front of the last memory buffer before a file.  Of the frames
 * that wait only the first keeps its place: the others may be removed, and
 * more put between them.  So an operation must not reach into a second one.
 */

static off_t
ngx_http_snapsend_other_frames(ngx_chain_t *in, ngx_chain_t *file)
{
    off_t                size, last;
    ngx_http_request_t  *r;

    r = file->buf->file->thread_ctx;

    if (r->stream == NULL) {
        return 0;
    }

    size = 0;
    last = 0;

    for ( /* void */ ; in != file; in = in->next) {

        if (!ngx_buf_special(in->buf)) {
            size += last;
            last = ngx_buf_size(in->buf);
        }
    }

    return size;
}

#endif


/* what is in front of the first piece of a file that is ours */

static ngx_chain_t *
ngx_http_snapsend_send_other(ngx_connection_t *c, ngx_http_snapsend_ctx_t *ctx,
    ngx_chain_t *in, off_t limit)
{
    off_t         size;
    ngx_chain_t  *cl;

    if (ctx->pending) {
        return ngx_http_snapsend_wait(c, in);
    }

    size = 0;

    for (cl = in; cl && size < limit; cl = cl->next) {

        if (ngx_http_snapsend_get_conf(cl->buf)) {
            limit = size;
            break;
        }

        size += ngx_buf_size(cl->buf);
    }

    return ngx_send_chain(c, in, limit);
}


/*
 * The request is over when the chain is empty.  So that this is not before the
 * last DONE, only operations are begun while others are pending.
 */

static ngx_chain_t *
ngx_http_snapsend_wait(ngx_connection_t *c, ngx_chain_t *in)
{
    c->write->ready = 0;

    return in;
}


/*
 * With zero-copy, DONE comes when the client has acknowledged everything.  The
 * next operation does not wait for that, but for SENT.
 */

static uint32_t
ngx_http_snapsend_flags(ngx_http_snapsend_ctx_t *ctx, ngx_buf_t *file,
    ngx_chain_t *rest)
{
    ngx_http_request_t            *r;
    ngx_http_snapsend_loc_conf_t  *slcf;

    r = file->file->thread_ctx;
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_snapsend_module);

    if (!slcf->zerocopy) {
        return 0;
    }

#if (NGX_HTTP_V2)

    /* frames are short, and a stream may end with each */

    if (r->stream) {
        return 0;
    }

#endif

    while (rest && !rest->buf->in_file) {
        rest = rest->next;
    }

    if (rest == NULL || ngx_http_snapsend_get_conf(rest->buf) == NULL
        || ctx->pending == NGX_HTTP_SNAPSEND_OPERATIONS - 1)
    {
        return SNAPSEND_ZEROCOPY;
    }

    return SNAPSEND_ZEROCOPY|SNAPSEND_NOTIFY_SENT;
}


static ngx_chain_t *
ngx_http_snapsend_send_file(ngx_connection_t *c, ngx_http_snapsend_ctx_t *ctx,
    ngx_chain_t *in, struct snapsend_request *request, ngx_buf_t *file)
{
    int                            rc;
    size_t                         header;
    ngx_http_request_t            *r;
    ngx_http_snapsend_loc_conf_t  *slcf;

    r = file->file->thread_ctx;
    slcf = ngx_http_get_module_loc_conf(r, ngx_http_snapsend_module);

    if (ngx_http_snapsend_take_request(ctx, r->main) != NGX_OK) {
        return NGX_CHAIN_ERROR;
    }

    ngx_http_snapsend_use_registered(c, ctx, request, file);

    rc = ngx_http_snapsend_start(ctx, request, slcf->min_size);
    header = ctx->size - request->length;

    ngx_log_debug5(NGX_LOG_DEBUG_EVENT, c->log, 0,
                   "snapsend: %d, @%O %uz+%uL %xd", rc, file->file_pos, header,
                   request->length, request->flags);

    if (rc == 1) {
        return ngx_http_snapsend_account(c, ctx, in);
    }

    if (rc == 0) {
        ngx_http_snapsend_hold(c, ctx);
        return in;
    }

    /* it has no room, or there is no context */

    if (rc == -EMFILE) {
        ngx_http_snapsend_unregister_last();
    }

    if (ctx->pending) {
        return ngx_http_snapsend_wait(c, in);
    }

    ctx->request = NULL;

    if (header) {
        return ngx_send_chain(c, in, header);
    }

    return ngx_http_snapsend_copy(c, in, file, request->length);
}


/*
 * What is used once is not worth a registration: a connection is registered
 * with its second operation, a file with the second use of the cached one.
 */

static void
ngx_http_snapsend_use_registered(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx, struct snapsend_request *request,
    ngx_buf_t *file)
{
    ngx_http_snapsend_file_t  *f;

    if (ctx->used && ctx->socket == 0 && ngx_http_snapsend_next_del_connection)
    {
        ctx->socket = snapsend_register_socket(ngx_http_snapsend, c->fd, 0);
    }

    ctx->used = 1;

    if (ctx->socket > 0) {
        request->socket_fd = ctx->socket;
        request->flags |= SNAPSEND_REGISTERED_SOCKET;
    }

    f = ngx_http_snapsend_find_file(file->file->fd);

    if (f == NULL) {
        f = ngx_http_snapsend_register_file(file->file->thread_ctx, file->file);
    }

    if (f) {
        f->used = ngx_time();
        ngx_queue_remove(&f->queue);
        ngx_queue_insert_head(&ngx_http_snapsend_files.queue, &f->queue);

        request->file_fd = f->handle;
        request->flags |= SNAPSEND_REGISTERED_FILE;
    }
}


/*
 * Called before a descriptor is closed.  As the library has a copy of it until
 * some time after this, epoll is told explicitly: a late event must not reach
 * another connection.
 */

static ngx_int_t
ngx_http_snapsend_del_connection(ngx_connection_t *c, ngx_uint_t flags)
{
    ngx_http_snapsend_ctx_t  *ctx;

    if ((flags & NGX_CLOSE_EVENT)
        && c->send_chain == ngx_http_snapsend_send_chain)
    {
        ctx = ngx_http_snapsend_get_ctx(c);

        if (ctx->socket > 0) {
            (void) snapsend_unregister_socket(ngx_http_snapsend, ctx->socket);
            ctx->socket = 0;

            if (c->read->active || c->write->active) {
                flags &= ~NGX_CLOSE_EVENT;
            }
        }
    }

    return ngx_http_snapsend_next_del_connection(c, flags);
}


static ngx_http_snapsend_file_t *
ngx_http_snapsend_find_file(ngx_fd_t fd)
{
    ngx_rbtree_key_t    key;
    ngx_rbtree_node_t  *node;

    key = (ngx_rbtree_key_t) fd;
    node = ngx_http_snapsend_files.rbtree.root;

    while (node != &ngx_http_snapsend_files.sentinel) {

        if (node->key == key) {
            return (ngx_http_snapsend_file_t *) node;
        }

        node = (key < node->key) ? node->left : node->right;
    }

    return NULL;
}


static ngx_http_snapsend_file_t *
ngx_http_snapsend_register_file(ngx_http_request_t *r, ngx_file_t *file)
{
    ngx_cached_open_file_t    *cached;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_snapsend_file_t  *f;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    /* with master_process off, a reload frees the cache under its users */

    if (clcf->open_file_cache == NULL || ngx_process != NGX_PROCESS_WORKER) {
        return NULL;
    }

    cached = ngx_http_snapsend_find_cached(clcf->open_file_cache, &file->name);

    if (cached == NULL || cached->fd != file->fd || cached->uses < 2) {
        return NULL;
    }

    if (ngx_http_snapsend_files.count >= clcf->open_file_cache->max) {
        ngx_http_snapsend_unregister_last();
    }

    f = ngx_http_snapsend_use_cached(clcf, &file->name, cached);

    if (f == NULL) {
        return NULL;
    }

    f->handle = snapsend_register_file(ngx_http_snapsend, file->fd, 0);

    if (f->handle < 0) {
        ngx_destroy_pool(f->pool);
        return NULL;
    }

    ngx_rbtree_insert(&ngx_http_snapsend_files.rbtree, &f->node);
    ngx_queue_insert_head(&ngx_http_snapsend_files.queue, &f->queue);
    ngx_http_snapsend_files.count++;

    if (!ngx_http_snapsend_files.expire.timer_set) {
        ngx_add_timer(&ngx_http_snapsend_files.expire, f->inactive * 1000);
    }

    return f;
}


/* as nginx looks there, without the side effects */

static ngx_cached_open_file_t *
ngx_http_snapsend_find_cached(ngx_open_file_cache_t *cache, ngx_str_t *name)
{
    uint32_t                 hash;
    ngx_int_t                rc;
    ngx_rbtree_node_t       *node;
    ngx_cached_open_file_t  *file;

    hash = ngx_crc32_long(name->data, name->len);
    node = cache->rbtree.root;

    while (node != cache->rbtree.sentinel) {

        if (hash != node->key) {
            node = (hash < node->key) ? node->left : node->right;
            continue;
        }

        file = (ngx_cached_open_file_t *) node;
        rc = ngx_strcmp(name->data, file->name);

        if (rc == 0) {
            return file;
        }

        node = (rc < 0) ? node->left : node->right;
    }

    return NULL;
}


/* the pool holds the use; the file is taken as it is, whatever its age */

static ngx_http_snapsend_file_t *
ngx_http_snapsend_use_cached(ngx_http_core_loc_conf_t *clcf, ngx_str_t *name,
    ngx_cached_open_file_t *cached)
{
    ngx_fd_t                   fd;
    ngx_pool_t                *pool;
    ngx_open_file_info_t       of;
    ngx_http_snapsend_file_t  *f;

    pool = ngx_create_pool(1024, ngx_cycle->log);
    if (pool == NULL) {
        return NULL;
    }

    ngx_memzero(&of, sizeof(ngx_open_file_info_t));

    of.valid = NGX_MAX_INT_T_VALUE;
    of.min_uses = clcf->open_file_cache_min_uses;
    of.directio = NGX_OPEN_FILE_DIRECTIO_OFF;
    of.errors = clcf->open_file_cache_errors;
#if (NGX_HAVE_OPENAT)
    of.disable_symlinks = cached->disable_symlinks;
    of.disable_symlinks_from = cached->disable_symlinks_from;
#endif

    fd = cached->fd;
    f = ngx_palloc(pool, sizeof(ngx_http_snapsend_file_t));

    if (f == NULL
        || ngx_open_cached_file(clcf->open_file_cache, name, &of, pool)
           != NGX_OK
        || of.fd != fd)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->node.key = (ngx_rbtree_key_t) fd;
    f->pool = pool;
    f->inactive = clcf->open_file_cache->inactive;

    return f;
}


static void
ngx_http_snapsend_unregister_file(ngx_http_snapsend_file_t *f)
{
    (void) snapsend_unregister_file(ngx_http_snapsend, f->handle);

    ngx_rbtree_delete(&ngx_http_snapsend_files.rbtree, &f->node);
    ngx_queue_remove(&f->queue);
    ngx_http_snapsend_files.count--;

    ngx_destroy_pool(f->pool);
}


static void
ngx_http_snapsend_unregister_last(void)
{
    ngx_queue_t  *q;

    if (!ngx_queue_empty(&ngx_http_snapsend_files.queue)) {
        q = ngx_queue_last(&ngx_http_snapsend_files.queue);

        ngx_http_snapsend_unregister_file(
                        ngx_queue_data(q, ngx_http_snapsend_file_t, queue));
    }
}


static void
ngx_http_snapsend_expire_handler(ngx_event_t *ev)
{
    time_t                     left;
    ngx_queue_t               *q;
    ngx_http_snapsend_file_t  *f;

    while (!ngx_queue_empty(&ngx_http_snapsend_files.queue)) {

        q = ngx_queue_last(&ngx_http_snapsend_files.queue);
        f = ngx_queue_data(q, ngx_http_snapsend_file_t, queue);

        left = f->used + f->inactive - ngx_time();

        if (left > 0) {
            ngx_add_timer(ev, left * 1000);
            return;
        }

        ngx_http_snapsend_unregister_file(f);
    }
}


/* while others are pending it must not end at once: see above */

static int
ngx_http_snapsend_start(ngx_http_snapsend_ctx_t *ctx,
    struct snapsend_request *request, size_t min_size)
{
    uint32_t  lent = SNAPSEND_ZEROCOPY|SNAPSEND_REGISTERED_FILE;

    if (min_size == NGX_CONF_UNSET_SIZE) {
        min_size = (request->flags & lent) == lent
                   ? NGX_HTTP_SNAPSEND_LENT_MIN : NGX_HTTP_SNAPSEND_COPIED_MIN;
    }

    if (ctx->refused) {
        ctx->refused = 0;
        return -EAGAIN;
    }

    if (request->length < min_size && ctx->pending == 0) {
        return snapsend_try_send(ngx_http_snapsend, request, sizeof(*request),
                                 &ctx->done);
    }

    return snapsend_submit(ngx_http_snapsend, request, sizeof(*request),
                           &ctx->done.id);
}


static ngx_chain_t *
ngx_http_snapsend_copy(ngx_connection_t *c, ngx_chain_t *in, ngx_buf_t *file,
    off_t size)
{
    ssize_t  n;

    size = ngx_min(size, NGX_HTTP_SNAPSEND_COPY_SIZE);

    n = ngx_read_file(file->file, ngx_http_snapsend_buffer, (size_t) size,
                      file->file_pos);

    if (n == NGX_ERROR) {
        return NGX_CHAIN_ERROR;
    }

    if (n == 0) {
        ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                      "snapsend reported that \"%s\" was truncated at %O",
                      file->file->name.data, file->file_pos);
        return NGX_CHAIN_ERROR;
    }

    n = ngx_send(c, ngx_http_snapsend_buffer, n);

    if (n == NGX_ERROR) {
        return NGX_CHAIN_ERROR;
    }

    return ngx_chain_update_sent(in, n == NGX_AGAIN ? 0 : n);
}


static ngx_chain_t *
ngx_http_snapsend_account(ngx_connection_t *c, ngx_http_snapsend_ctx_t *ctx,
    ngx_chain_t *in)
{
    ctx->unaccounted = 0;
    c->sent += ctx->done.wire_bytes;

    in = ngx_chain_update_sent(in, ctx->done.wire_bytes);

    if (ctx->done.status == 0) {
        return in;
    }

    if (ctx->done.wire_bytes == 0 && ctx->done.status != -ENODATA
        && ctx->done.status != -ECANCELED)
    {
        /* no descriptors, for example; nginx finds out if it is the client */
        ctx->refused = 1;
        return in;
    }

    return ngx_http_snapsend_fail(c, ctx->done.status,
                  ctx->done.wire_bytes < (uint64_t) ctx->size ? in : NULL);
}


/* the rest begins with what a file was too short for; NULL: all was sent */

static ngx_chain_t *
ngx_http_snapsend_fail(ngx_connection_t *c, int32_t status, ngx_chain_t *rest)
{
    switch (status) {

    case -ENODATA:

        if (rest == NULL) {
            ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                          "snapsend reported that the file was truncated "
                          "before the client had received it");
            return NGX_CHAIN_ERROR;
        }

        while (!rest->buf->in_file) {
            rest = rest->next;
        }

        ngx_log_error(NGX_LOG_ALERT, c->log, 0,
                      "snapsend reported that \"%s\" was truncated at %O",
                      rest->buf->file->name.data, rest->buf->file_pos);

        return NGX_CHAIN_ERROR;

    case -ECANCELED:
        return NGX_CHAIN_ERROR;
    }

    c->write->error = 1;
    ngx_connection_error(c, -status, "snapsend failed");

    return NGX_CHAIN_ERROR;
}


static ngx_int_t
ngx_http_snapsend_take_request(ngx_http_snapsend_ctx_t *ctx,
    ngx_http_request_t *r)
{
    ngx_http_cleanup_t  *cln;

    if (ngx_http_get_module_ctx(r, ngx_http_snapsend_module) == NULL) {

        cln = ngx_http_cleanup_add(r, 0);
        if (cln == NULL) {
            return NGX_ERROR;
        }

        cln->handler = ngx_http_snapsend_request_cleanup;
        cln->data = r;

        ngx_http_set_ctx(r, ctx, ngx_http_snapsend_module);
    }

    ctx->request = r;

    return NGX_OK;
}


/* until DONE the request, its files and the connection stay */

static void
ngx_http_snapsend_hold(ngx_connection_t *c, ngx_http_snapsend_ctx_t *ctx)
{
    ctx->in_flight = 1;
    ctx->unaccounted = 1;
    ctx->done.event = SNAPSEND_EVENT_DONE;
    ctx->status = ctx->request->headers_out.status;
    ctx->request->blocked++;

    c->write->ready = 0;

    if (ctx->pending++ == 0) {
        ctx->progress = 0;
        ngx_add_timer(&ctx->watch, ngx_http_snapsend_timeout(ctx->request)
                                   / NGX_HTTP_SNAPSEND_WATCHES + 1);
    }
}


static void
ngx_http_snapsend_finish(ngx_http_snapsend_ctx_t *ctx,
    struct snapsend_completion *done)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = ctx->request;
    c = ctx->watch.data;

    ngx_http_set_log_request(r->connection->log, r);

    ngx_log_debug6(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "snapsend %s: %d, %uL, %xd, \"%V?%V\"",
                   done->event == SNAPSEND_EVENT_SENT ? "sent" : "done",
                   done->status, done->wire_bytes, done->flags,
                   &r->uri, &r->args);

    if (ctx->in_flight && done->id == ctx->done.id) {
        ctx->done = *done;

    } else if (done->status && !ctx->failed) {
        ctx->failed = done->status;
    }

    if (done->event == SNAPSEND_EVENT_DONE) {
        r->blocked--;

        if (--ctx->pending == 0) {
            ngx_del_timer(&ctx->watch);
        }
    }

    if (ctx->pending && ctx->done.event != SNAPSEND_EVENT_SENT) {
        return;
    }

    ctx->in_flight = 0;

    c->write->ready = 1;
    ngx_post_event(c->write, &ngx_posted_events);

    if (ctx->pending || !r->connection->error) {
        return;
    }

    /* the request was terminated meanwhile, and has waited for this */

    if (c == r->connection) {
        ngx_http_snapsend_account_terminated(c, ctx);
    }

    c = r->connection;

    ngx_http_finalize_request(r, NGX_ERROR);
    ngx_http_run_posted_requests(c);
}


/*
 * Runs when the request is terminated, also if it then has to wait because
 * it is blocked, and before it is logged.
 */

static void
ngx_http_snapsend_request_cleanup(void *data)
{
    ngx_http_request_t *r = data;

    ngx_connection_t         *c;
    ngx_http_snapsend_ctx_t  *ctx;
#if (NGX_HTTP_V2)
    ngx_http_cleanup_t       *cln;
#endif

    c = ngx_http_snapsend_get_connection(r);
    ctx = ngx_http_snapsend_get_ctx(c);

    if (ctx->request != r) {
        return;
    }

#if (NGX_HTTP_V2)

    if (r->stream && ctx->in_flight && !c->error
        && r->stream->connection->last_out)
    {
        /*
         * a frame that has been begun is sent to its end, unless that of
         * the connection comes first: then this is to run again
         */

        cln = ngx_http_cleanup_add(r, 0);
        if (cln) {
            cln->handler = ngx_http_snapsend_request_cleanup;
            cln->data = r;
        }

        return;
    }

#endif

    if (ctx->pending) {
        (void) snapsend_cancel_socket(ngx_http_snapsend, c->fd);

    } else if (c == r->connection) {
        ngx_http_snapsend_account_terminated(c, ctx);
    }
}


/* nobody will call send_chain again */

static void
ngx_http_snapsend_account_terminated(ngx_connection_t *c,
    ngx_http_snapsend_ctx_t *ctx)
{
    ngx_http_request_t  *r = ctx->request;

    ctx->request = NULL;

    if (!ctx->unaccounted) {
        return;
    }

    ctx->unaccounted = 0;
    c->sent += ctx->done.wire_bytes;

    if (ctx->done.wire_bytes) {
        /* the status changes only if nothing has been sent, as c->sent said */
        r->headers_out.status = ctx->status;
    }
}


/* its address marks the connection's data among the cleanups of its pool */

static void
ngx_http_snapsend_connection_cleanup(void *data)
{
    ngx_http_snapsend_ctx_t *ctx = data;

    if (ctx->pending) {
        ngx_log_error(NGX_LOG_ALERT, ctx->watch.log, 0,
                      "connection closed while snapsend is in flight");
    }
}


static void
ngx_http_snapsend_event_handler(ngx_event_t *ev)
{
    int                         n, i;
    ngx_http_snapsend_ctx_t    *ctx;
    struct snapsend_completion  done[NGX_HTTP_SNAPSEND_COMPLETIONS];

    do {
        n = snapsend_poll(ngx_http_snapsend, done,
                          NGX_HTTP_SNAPSEND_COMPLETIONS, 0);

        for (i = 0; i < n; i++) {
            ctx = (ngx_http_snapsend_ctx_t *) (uintptr_t) done[i].user_data;
            ngx_http_snapsend_finish(ctx, &done[i]);
        }

    } while (n == NGX_HTTP_SNAPSEND_COMPLETIONS);

    if (n < 0 && n != -EINTR) {
        ngx_log_error(NGX_LOG_ALERT, ev->log, -n, "snapsend_poll() failed");
        (void) ngx_del_event(ev, NGX_READ_EVENT, 0);
    }
}


/*
 * send_timeout is for a client that takes nothing.  What the library puts
 * into the socket nginx does not see, so its timer is set anew here.
 */

static void
ngx_http_snapsend_watch_handler(ngx_event_t *ev)
{
    uint64_t                  progress;
    ngx_event_t              *wev;
    ngx_msec_t                timeout;
    ngx_connection_t         *c;
    ngx_http_snapsend_ctx_t  *ctx;

    c = ev->data;
    wev = c->write;
    ctx = ngx_http_snapsend_get_ctx(c);

    timeout = ngx_http_snapsend_timeout(ctx->request);
    progress = ngx_http_snapsend_progress(c, ctx->progress);

    /* HTTP/2 may have no timer: it deletes one after what it could send */

    if ((progress != ctx->progress || !wev->timer_set) && !wev->delayed) {
        ngx_add_timer(wev, timeout);
    }

    ctx->progress = progress;

    ngx_add_timer(ev, timeout / NGX_HTTP_SNAPSEND_WATCHES + 1);
}


/*
 * A number that changes when the client has taken something, and also if it
 * has taken everything: then the disk is slow, not the client.
 */

static uint64_t
ngx_http_snapsend_progress(ngx_connection_t *c, uint64_t before)
{
    int        unsent;
    u_char     info[NGX_HTTP_SNAPSEND_BYTES_ACKED + sizeof(uint64_t)];
    uint64_t   acked;
    socklen_t  len;

    if (ioctl(c->fd, TIOCOUTQ, &unsent) == -1) {
        return before;
    }

    if (unsent == 0) {
        return before + 1;
    }

    len = sizeof(info);

    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, info, &len) == -1
        || len < sizeof(info))
    {
        /* a UNIX-domain socket */
        return unsent;
    }

    ngx_memcpy(&acked, &info[NGX_HTTP_SNAPSEND_BYTES_ACKED], sizeof(uint64_t));

    return acked;
}


static ngx_msec_t
ngx_http_snapsend_timeout(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t  *clcf;

#if (NGX_HTTP_V2)

    if (r->stream) {
        clcf = ngx_http_get_module_loc_conf(
                          r->stream->connection->http_connection->conf_ctx,
                          ngx_http_core_module);

        return clcf->send_timeout;
    }

#endif

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return clcf->send_timeout;
}


static ngx_int_t
ngx_http_snapsend_init_process(ngx_cycle_t *cycle)
{
    int                             rc;
    ngx_uint_t                      n;
    struct snapsend_options         options;
    ngx_http_snapsend_main_conf_t  *smcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    smcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_snapsend_module);

    if (smcf == NULL || !smcf->used) {
        return NGX_OK;
    }

    ngx_http_snapsend_init_registered(cycle);

    ngx_memzero(&options, sizeof(struct snapsend_options));

    n = smcf->zerocopy ? NGX_HTTP_SNAPSEND_OPERATIONS : 1;
    options.max_ops = ngx_min(cycle->connection_n * n, 1048576);

    rc = snapsend_create(&options, sizeof(options), &ngx_http_snapsend);

    if (rc < 0) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, -rc,
                      "snapsend_create() failed, files are read by nginx");
        return NGX_OK;
    }

    if (smcf->zerocopy) {
        ngx_http_snapsend_check_zerocopy(cycle);
    }

    if (ngx_http_snapsend_init_event(cycle) != NGX_OK) {
        snapsend_destroy(ngx_http_snapsend);
        ngx_http_snapsend = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_snapsend_init_registered(ngx_cycle_t *cycle)
{
    ngx_http_snapsend_files_t  *files = &ngx_http_snapsend_files;

    ngx_rbtree_init(&files->rbtree, &files->sentinel, ngx_rbtree_insert_value);
    ngx_queue_init(&files->queue);

    files->expire.handler = ngx_http_snapsend_expire_handler;
    files->expire.log = cycle->log;
    files->expire.cancelable = 1;

    /* not all event methods have it; then no socket is registered */

    if (ngx_event_actions.del_conn) {
        ngx_http_snapsend_next_del_connection = ngx_event_actions.del_conn;
        ngx_event_actions.del_conn = ngx_http_snapsend_del_connection;
    }
}


static void
ngx_http_snapsend_check_zerocopy(ngx_cycle_t *cycle)
{
    struct snapsend_info  info;

    if (snapsend_get_info(ngx_http_snapsend, &info, sizeof(info)) == 0
        && !(info.kernel_features & SNAPSEND_KERNEL_ZC_REPORT_USAGE))
    {
        ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                      "snapsend_zerocopy is in use, but needs io_uring and "
                      "Linux 6.2: data is copied");
    }
}


static ngx_int_t
ngx_http_snapsend_init_event(ngx_cycle_t *cycle)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(snapsend_event_fd(ngx_http_snapsend), cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->read->handler = ngx_http_snapsend_event_handler;
    c->read->log = cycle->log;

    if (ngx_add_event(c->read, NGX_READ_EVENT, 0) != NGX_OK) {
        ngx_free_connection(c);
        c->fd = (ngx_socket_t) -1;
        return NGX_ERROR;
    }

    ngx_http_snapsend_connection = c;

    /* named by the debug log of timers */
    ngx_http_snapsend_files.expire.data = c;

    return NGX_OK;
}


static void
ngx_http_snapsend_exit_process(ngx_cycle_t *cycle)
{
    if (ngx_http_snapsend == NULL) {
        return;
    }

    while (ngx_http_snapsend_files.count) {
        ngx_http_snapsend_unregister_last();
    }

    /* the descriptor is the context's to close */
    ngx_free_connection(ngx_http_snapsend_connection);
    ngx_http_snapsend_connection->fd = (ngx_socket_t) -1;

    snapsend_destroy(ngx_http_snapsend);
    ngx_http_snapsend = NULL;
}


static void *
ngx_http_snapsend_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_snapsend_main_conf_t));
}


static void *
ngx_http_snapsend_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_snapsend_loc_conf_t  *conf;

    conf = ngx_palloc(cf->pool, sizeof(ngx_http_snapsend_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->enable = NGX_CONF_UNSET;
    conf->min_size = NGX_CONF_UNSET_SIZE;
    conf->zerocopy = NGX_CONF_UNSET;

    return conf;
}


static char *
ngx_http_snapsend_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_snapsend_loc_conf_t *prev = parent;
    ngx_http_snapsend_loc_conf_t *conf = child;

    ngx_http_snapsend_main_conf_t  *smcf;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_value(conf->zerocopy, prev->zerocopy, 0);

    /* the default is not the same for all requests: it stays unset */
    ngx_conf_merge_size_value(conf->min_size, prev->min_size,
                              NGX_CONF_UNSET_SIZE);

    if (conf->enable) {
        smcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_snapsend_module);
        smcf->used = 1;
        smcf->zerocopy |= conf->zerocopy;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_snapsend_init(ngx_conf_t *cf)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_snapsend_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_snapsend_body_filter;

    return NGX_OK;
}
